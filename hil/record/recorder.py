"""One QCoDeS dataset per run: written, and committed to disk, with every block of readings and every step.

The dataset has four groups of rows, each with an index of its own: ``reading`` (what was applied, read, its std and
overload), ``step`` (training history), ``row`` (a procedure's own tables) and ``event`` (warnings, the end). Where a bench has
replicas, column ``replica`` of a reading is the place of the device in the list of them that ``hil_columns`` holds.
"""

import json
import logging
import math
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hil.core.errors import ConfigError, RecordError
from hil.core.events import Event, Finished, Measured, StepDone, TableRow, Warned
from hil.core.types import Layout
from hil.record.checkpoint import Spill

if TYPE_CHECKING:
    from qcodes.dataset.data_set import DataSet
    from qcodes.parameters import ParamSpecBase

DATABASE = "runs.db"
REPLICA = "replica"
BUSY_TIMEOUT = 5.0
"""Seconds that a write waits for another program to let go of the file."""
_ERRORS = (OSError, sqlite3.Error, RuntimeError)
"""What a write can raise; QCoDeS wraps errors of the database into RuntimeError."""


def why(error: BaseException) -> str:
    """The sentence of the error that began it all."""
    return why(error.__cause__) if error.__cause__ is not None else str(error)


def quiet_qcodes() -> None:
    """Its log goes to whoever configured logging; nobody else wants tracebacks of errors that are told in a sentence."""
    log = logging.getLogger("qcodes")
    log.setLevel(logging.WARNING)
    if not any(isinstance(handler, logging.NullHandler) for handler in log.handlers):
        log.addHandler(logging.NullHandler())


def plain(value: object) -> Any:
    """``value`` as JSON without NaN or infinity (they become null); arrays become lists, odd things their text."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, bool | int | str) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value)


def identifiers(names: Sequence[str], prefix: str = "") -> dict[str, str]:
    """Channel name -> a name that QCoDeS accepts (letters, digits, underscore), all different."""
    made: dict[str, str] = {}
    for name in names:
        wanted = prefix + "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in name)
        wanted = wanted if wanted[0].isalpha() else f"c_{wanted}"
        number = 2
        unique = wanted
        while unique in made.values():
            unique, number = f"{wanted}_{number}", number + 1
        made[name] = unique
    return made


def open_database(folder: Path) -> Any:
    """Connection to the runs of ``folder`` (made if missing), in WAL mode; ConfigError where it cannot be written."""
    # QCoDeS takes a third of a second to import.
    from qcodes.dataset.sqlite.database import connect

    path = folder / DATABASE
    quiet_qcodes()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        connection: Any = connect(path)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA busy_timeout={round(1000 * BUSY_TIMEOUT)}")
        with connection:
            connection.execute("BEGIN IMMEDIATE")
    except _ERRORS as error:
        raise ConfigError(f"the run cannot be recorded in {path}: {why(error)}; choose another folder with --data DIR") from error
    return connection


class RunRecorder:
    """Writes the events of one run. Construct it before anything is applied; ``finish`` (or ``close``) ends the dataset.

    ``description``: JSON-able facts about the run that are stored as metadata, one tag each, prefixed ``hil_``.
    ``replicas``: names of the identical devices behind the outputs. ``counts``: how many rows of each group the runs hold that
    this one continues; its own are numbered on from there.
    Raises ConfigError when the folder cannot be written, RecordError when a write fails later: what could not be written then
    waits in ``spill``, and so does everything after it, without a second error, so that the way to the safe state is free.
    """

    def __init__(
        self,
        folder: Path,
        *,
        protocol: str,
        sample: str,
        controls: Layout,
        outputs: Layout,
        snapshot: Mapping[str, object],
        description: Mapping[str, object],
        replicas: Sequence[str] = (),
        counts: Mapping[str, int] | None = None,
    ) -> None:
        self._connection = open_database(folder)
        self.path = folder / DATABASE
        self._controls = identifiers(controls.names)
        self._outputs = identifiers(outputs.names, "read_" if set(controls.names) & set(outputs.names) else "")
        if set(self._controls.values()) & set(self._outputs.values()):
            self._outputs = identifiers(outputs.names, "read_")
        self._weights = identifiers(controls.names, "weight_")
        self._replicas = {name: place for place, name in enumerate(replicas)}
        self._replica = REPLICA
        while self._replica in {*self._controls.values(), *self._outputs.values()}:
            self._replica += "_"
        self._counts = {"reading": 0, "step": 0, "row": 0, "event": 0, **(counts or {})}
        try:
            self._dataset = self._start(protocol, sample, controls, outputs, snapshot, description)
        except _ERRORS as error:
            self._connection.close()
            raise ConfigError(
                f"the run cannot be recorded in {self.path}: {why(error)}; choose another folder with --data DIR"
            ) from error
        self.run_id: int = self._dataset.run_id
        self.spill = Spill(folder, self.run_id)
        self.broken = False

    @property
    def counts(self) -> dict[str, int]:
        """Rows of each group so far, those of the runs before included."""
        return dict(self._counts)

    def _start(
        self,
        protocol: str,
        sample: str,
        controls: Layout,
        outputs: Layout,
        snapshot: Mapping[str, object],
        description: Mapping[str, object],
    ) -> "DataSet":
        from qcodes.dataset.data_set import new_data_set
        from qcodes.dataset.descriptions.dependencies import InterDependencies_
        from qcodes.dataset.experiment_container import load_or_create_experiment
        from qcodes.parameters import ParamSpecBase

        experiment = load_or_create_experiment(protocol, sample or "none", conn=self._connection, load_last_duplicate=True)
        dataset = new_data_set(protocol, exp_id=experiment.exp_id, conn=self._connection, in_memory_cache=False)

        def numbers(named: Mapping[str, tuple[str, str]]) -> "list[ParamSpecBase]":
            return [ParamSpecBase(name, "numeric", label, unit) for name, (label, unit) in named.items()]

        reading, step, row, event = numbers({"reading": ("", ""), "step": ("", ""), "row": ("", ""), "event": ("", "")})
        readings: dict[str, tuple[str, str]] = {"time": ("time", "s")}
        if self._replicas:
            readings[self._replica] = (f"replica ({', '.join(self._replicas)})", "")
        for channel in controls:
            readings[self._controls[channel.name]] = (channel.name, channel.quantity.value)
            readings[f"{self._controls[channel.name]}_connected"] = (f"{channel.name} connected", "")
        for channel in outputs:
            readings[self._outputs[channel.name]] = (channel.name, channel.quantity.value)
            readings[f"{self._outputs[channel.name]}_std"] = (f"standard error of {channel.name}", channel.quantity.value)
            readings[f"{self._outputs[channel.name]}_overload"] = (f"{channel.name} overload", "")
        history: dict[str, tuple[str, str]] = {
            "loss": ("loss", ""),
            "loss_std": ("loss std", ""),
            "relaxations": ("relaxations", ""),
        }
        history |= {self._weights[channel.name]: (f"weight {channel.name}", channel.quantity.value) for channel in controls}
        groups = {
            reading: numbers(readings),
            step: [*numbers(history), ParamSpecBase("step_record", "text")],
            row: [ParamSpecBase("row_record", "text")],
            event: [ParamSpecBase("event_record", "text")],
        }
        dependencies: dict[ParamSpecBase, tuple[ParamSpecBase, ...]] = {}
        for index, members in groups.items():
            dependencies |= dict.fromkeys(members, (index,))
        dataset.set_interdependencies(InterDependencies_(dependencies=dependencies))
        dataset.add_snapshot(json.dumps(plain(snapshot)))
        for tag, value in description.items():
            dataset.add_metadata(f"hil_{tag}", value if isinstance(value, str) else json.dumps(plain(value)))
        columns: dict[str, object] = {"controls": self._controls, "outputs": self._outputs, "weights": self._weights}
        if self._replicas:
            columns["replica"] = {"column": self._replica, "names": list(self._replicas)}
        dataset.add_metadata("hil_columns", json.dumps(columns))
        dataset.mark_started()
        return dataset

    def emit(self, event: Event) -> None:
        """Store one event; it is committed when this returns. Raises RecordError."""
        match event:
            case Measured():
                self._add(self._reading_rows(event))
            case StepDone():
                self._add([self._step_row(event)])
            case TableRow():
                self._add([self._numbered("row", {"table": event.table, **event.row})])
            case Warned():
                self._add([self._numbered("event", {"time": _now(), "warning": event.message})])
            case Finished():
                self._add([self._numbered("event", {"time": _now(), "outcome": event.outcome, "reason": event.reason})])
            case _:
                pass

    def _add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        if self.broken:
            self.spill.add(rows)
            return
        try:
            self._dataset.add_results(rows)
        except _ERRORS as error:
            self.broken = True
            place = self.spill.add(rows)
            kept = f"it is kept in {place}" if place else "no other place took it either, so it is lost"
            raise RecordError(
                f"a measurement could not be written to {self.path}: {why(error)}; {kept}; free space or unlock the file, "
                "then resume the run"
            ) from error

    def _reading_rows(self, event: Measured) -> list[dict[str, Any]]:
        # Column by column: a batch of device neurons has thousands of rows.
        readings = event.readings
        applied = np.array([stimulus.values for stimulus in event.stimuli], dtype=np.float64)
        connected = np.array([stimulus.connected for stimulus in event.stimuli], dtype=np.int64)
        columns: dict[str, list[Any]] = {
            "reading": [self._next("reading") for _ in range(len(readings))],
            "time": readings.time.astype(np.float64).tolist(),
        }
        if self._replicas:
            # The plain verbs read the first of them.
            columns[self._replica] = [self._replicas[name] for name in readings.replica] or [0] * len(readings)
        for column, name in enumerate(self._controls.values()):
            columns[name] = applied[:, column].tolist()
            columns[f"{name}_connected"] = connected[:, column].tolist()
        for column, name in enumerate(self._outputs.values()):
            columns[name] = readings.values[:, column].tolist()
            columns[f"{name}_std"] = readings.std[:, column].tolist()
            columns[f"{name}_overload"] = readings.overload[:, column].astype(np.int64).tolist()
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def _step_row(self, event: StepDone) -> dict[str, Any]:
        record = {
            "weights": event.weights,
            "outputs": event.outputs,
            "theta": event.theta,
            "gradient": event.gradient,
            "info": event.info,
        }
        self._next("step")
        return {
            "step": event.step,
            "loss": float(event.loss),
            "loss_std": float(event.loss_std),
            "relaxations": event.relaxations,
            "step_record": json.dumps(plain(record)),
            **{self._weights[name]: float(value) for name, value in event.weights.items() if name in self._weights},
        }

    def _numbered(self, group: str, record: Mapping[str, object]) -> dict[str, Any]:
        return {group: self._next(group), f"{group}_record": json.dumps(plain(record))}

    def _next(self, group: str) -> int:
        number = self._counts[group]
        self._counts[group] = number + 1
        return number

    def finish(self, summary: Mapping[str, object]) -> None:
        """Store the summary of the run. Raises RecordError."""
        try:
            self._dataset.add_metadata("hil_outcome", str(summary.get("outcome", "")))
            self._dataset.add_metadata("hil_summary", json.dumps(plain(summary)))
        except _ERRORS as error:
            raise RecordError(f"the summary could not be written to {self.path}: {why(error)}") from error

    def snapshot_end(self, snapshot: Mapping[str, object]) -> None:
        """Store what the bench was set to at the end, beside the snapshot of the beginning. Raises RecordError."""
        try:
            self._dataset.add_metadata("hil_snapshot_end", json.dumps(plain(snapshot)))
        except _ERRORS as error:
            raise RecordError(f"the snapshot could not be written to {self.path}: {why(error)}") from error

    def release(self) -> None:
        """Close the file without ending the dataset, as a program that is killed does; a closed one stays as it is."""
        self._connection.close()

    def close(self) -> None:
        """End the dataset and close the file; a dataset without a summary reads as unfinished."""
        try:
            self._dataset.mark_completed()
        except _ERRORS as error:
            raise RecordError(f"the run could not be closed in {self.path}: {why(error)}") from error
        finally:
            self._connection.close()


def _now() -> str:
    return datetime.now(tz=UTC).isoformat(timespec="seconds")
