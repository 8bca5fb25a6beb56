"""Runs read back: as pandas tables and xarray datasets, and exported to files. The files are plain QCoDeS databases."""

import json
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hil.core.errors import ConfigError, RecordError
from hil.record.logbook import notes
from hil.record.recorder import DATABASE, quiet_qcodes, why

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

FORMATS = ("csv", "netcdf", "parquet")
_TEXT_TAGS = ("protocol_text", "bench_text", "target", "outcome", "git_commit", "protocol", "bench", "command", "started")


@dataclass(frozen=True)
class Run:
    """One run. ``readings``: one row per reading (column ``replica``: of which device, where there are several); ``history``:
    one per step; ``rows``: a procedure's tables by name.

    A run that continues others holds their rows too, up to the state it went on from. ``notes``: time, author, text.
    """

    run_id: int
    name: str
    sample: str
    started: datetime | None
    metadata: dict[str, Any]
    snapshot: dict[str, Any]
    readings: "pd.DataFrame"
    history: "pd.DataFrame"
    rows: "dict[str, pd.DataFrame]"
    events: list[dict[str, Any]]
    notes: list[dict[str, str]] = field(default_factory=list)

    @property
    def outcome(self) -> str:
        """As in the summary; ``unfinished`` for a run that was killed or is still going on."""
        return str(self.metadata.get("outcome", "unfinished"))

    @property
    def summary(self) -> dict[str, Any]:
        """The summary printed by ``hil run --json``; empty for an unfinished run."""
        summary: dict[str, Any] = self.metadata.get("summary", {})
        return summary

    def by_replica(self) -> str:
        """How many readings are of which device, such as `` (A 12, B 12)``; empty where there is one device."""
        replica = self.metadata.get("columns", {}).get("replica")
        if not replica or replica["column"] not in self.readings:
            return ""
        counts = self.readings[replica["column"]].value_counts()
        return f" ({', '.join(f'{name} {counts[name]}' for name in replica['names'] if name in counts)})"

    def to_xarray(self) -> "xr.Dataset":
        """Readings over ``reading`` and history over ``step`` in one dataset, with units; metadata as attributes."""
        import xarray as xr

        units: dict[str, str] = self.metadata.get("units", {})
        columns = {**self.metadata["columns"]["controls"], **self.metadata["columns"]["outputs"]}
        replica = self.metadata["columns"].get("replica")
        by_column = {column: units.get(name, "") for name, column in columns.items()}
        parts = {}
        for index, table in (("reading", self.readings), ("step", self.history)):
            for column in table.columns:
                if table[column].dtype.kind in "fiub":
                    name = str(column) if index == "reading" else f"history_{column}"
                    parts[name] = xr.DataArray(
                        table[column].to_numpy(), dims=(index,), coords={index: table.index.to_numpy()},
                        attrs={"units": by_column.get(str(column).removesuffix("_std"), "")},
                    )  # fmt: skip
        if replica and replica["column"] in self.readings:
            names = replica["names"]
            # As numbers that say what they mean (CF conventions, flag values): every format of files takes them.
            parts[replica["column"]] = xr.DataArray(
                self.readings[replica["column"]].map(names.index).to_numpy(dtype="int64"), dims=("reading",),
                coords={"reading": self.readings.index.to_numpy()},
                attrs={"flag_values": list(range(len(names))), "flag_meanings": " ".join(names)},
            )  # fmt: skip
        attributes = {
            key: value if isinstance(value, str | int | float) and not isinstance(value, bool) else json.dumps(value)
            for key, value in self.metadata.items()
        }
        return xr.Dataset(parts, attrs={"run_id": self.run_id, "name": self.name, "sample": self.sample, **attributes})


def database(folder: Path) -> Path:
    """Path of the database of ``folder``; ConfigError when nothing was recorded there."""
    path = folder / DATABASE
    if not path.is_file():
        raise ConfigError(
            f"there are no runs in {folder} (no {DATABASE}); run a protocol first, or name the folder with --data DIR"
        )
    return path


@contextmanager
def _connected(folder: Path) -> Iterator[Any]:
    from qcodes.dataset.sqlite.database import connect

    path = database(folder)
    quiet_qcodes()
    try:
        connection = connect(path, read_only=True)
    except (OSError, RuntimeError, ArithmeticError) as error:
        where = "" if os.access(folder, os.W_OK) else "; its journal needs a folder that can be written: copy it to one"
        raise RecordError(f"{path} cannot be read: {why(error)}{where}") from error
    try:
        yield connection
    finally:
        connection.close()


def _metadata(raw: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for tag, value in raw.items():
        if tag.startswith("hil_") and value is not None:
            name = tag.removeprefix("hil_")
            found[name] = value if name in _TEXT_TAGS or not isinstance(value, str) else json.loads(value)
    return found


def list_runs(folder: Path) -> list[dict[str, Any]]:
    """One dictionary per run, oldest first: run_id, started, protocol, target, outcome, steps, loss, continues (a run, None)."""
    from qcodes.dataset.data_set import load_by_id
    from qcodes.dataset.sqlite.queries import get_runs

    listed = []
    with _connected(folder) as connection:
        for run_id in sorted(get_runs(connection)):
            dataset = load_by_id(run_id, connection)
            facts = _metadata(dict(dataset.metadata))
            summary = facts.get("summary", {})
            listed.append(
                {
                    "run_id": run_id,
                    "started": facts.get("started", ""),
                    "protocol": facts.get("protocol", dataset.name),
                    "target": facts.get("target", ""),
                    "outcome": facts.get("outcome", "unfinished"),
                    "steps": summary.get("steps"),
                    "loss": summary.get("loss"),
                    "continues": facts.get("continues", {}).get("run_id"),
                }
            )
    return listed


def load(run_id: int, folder: Path) -> Run:
    """One run with all its tables; ConfigError when there is no such run."""
    import pandas as pd
    from qcodes.dataset.data_set import load_by_id
    from qcodes.dataset.sqlite.queries import get_runs

    with _connected(folder) as connection:
        known = sorted(int(number) for number in get_runs(connection))
        if run_id not in known:
            shown = f"runs {known[0]} … {known[-1]}" if known else "no runs"
            raise ConfigError(f"there is no run {run_id} in {folder}; it holds {shown}")
        dataset: Any = load_by_id(run_id, connection)
        facts = _metadata(dict(dataset.metadata))
        frames = _tables(folder, _pieces(connection, dataset, facts))
        raw_time = dataset.run_timestamp_raw
        readings, history = frames["reading"], frames["step"]
        order = [name for name in ("time", *_column_order(facts)) if name in readings]
        readings = readings[[*order, *(name for name in readings.columns if name not in order)]]
        replica = facts.get("columns", {}).get("replica")
        if replica and replica["column"] in readings:
            readings[replica["column"]] = [replica["names"][int(place)] for place in readings[replica["column"]]]
        rows: dict[str, list[dict[str, Any]]] = {}
        for text in frames["row"].get("row_record", ()):
            record = json.loads(text)
            rows.setdefault(record.pop("table"), []).append(record)
        return Run(
            run_id,
            str(facts.get("protocol", dataset.name)),
            dataset.sample_name,
            None if raw_time is None else datetime.fromtimestamp(raw_time, tz=UTC),
            facts,
            json.loads(dataset._snapshot_raw or "{}"),
            readings,
            _with_records(history),
            {name: pd.DataFrame(records) for name, records in rows.items()},
            [json.loads(text) for text in frames["event"].get("event_record", ())],
            notes(folder, run_id),
        )


def readings_until(folder: Path, run_id: int, rows: Mapping[str, int]) -> "tuple[pd.DataFrame, dict[str, Any]]":
    """The first ``rows["reading"]`` readings of run ``run_id`` and of those it continues, and what their columns are."""
    from qcodes.dataset.data_set import load_by_id

    with _connected(folder) as connection:
        dataset: Any = load_by_id(run_id, connection)
        facts = _metadata(dict(dataset.metadata))
        pieces = _pieces(connection, dataset, facts)
        return _tables(folder, [*pieces[:-1], (pieces[-1][0], dict(rows))])["reading"], facts["columns"]


def _pieces(connection: Any, dataset: Any, facts: dict[str, Any]) -> list[tuple[str, dict[str, int] | None]]:
    """The tables that make up a run, first part first, each with the rows of every group that count (None: all of them)."""
    from qcodes.dataset.data_set import load_by_id

    pieces: list[tuple[str, dict[str, int] | None]] = [(dataset.table_name, None)]
    while "continues" in facts:
        before: Any = load_by_id(facts["continues"]["run_id"], connection)
        pieces.insert(0, (before.table_name, facts["continues"]["rows"]))
        facts = _metadata(dict(before.metadata))
    return pieces


def _tables(folder: Path, pieces: list[tuple[str, dict[str, int] | None]]) -> "dict[str, pd.DataFrame]":
    """The four groups of rows, by index. Read past QCoDeS, whose converters keep 15 of the 17 digits that are stored."""
    import pandas as pd

    everything = pd.DataFrame()
    connection = sqlite3.connect(f"{database(folder).resolve().as_uri()}?mode=ro", uri=True)
    try:
        for number, (table, _) in enumerate(pieces):
            cursor = connection.execute(f'SELECT * FROM "{table}" ORDER BY id')
            names = [column[0] for column in cursor.description]
            part = pd.DataFrame(cursor.fetchall(), columns=names, dtype=object)
            everything = part if everything.empty else pd.concat([everything, part], ignore_index=True)
            limits = pieces[number][1]
            for group, limit in (limits or {}).items():
                # What was measured after the state that the next part went on from was measured again by that part.
                everything = everything.drop(everything.index[everything[group].notna()][limit:])
    finally:
        connection.close()
    found = {}
    for index in ("reading", "step", "row", "event"):
        rows = everything[everything[index].notna()]
        # An unused column (a weight that was not trained) is no column.
        rows = rows.set_index(rows[index].astype(int).rename(index)).drop(columns=["id", "reading", "step", "row", "event"])
        rows = rows.dropna(axis="columns", how="all")
        for name in rows.columns:
            if not name.endswith("_record"):
                rows[name] = rows[name].astype(float)
        found[index] = rows
    return found


def _column_order(facts: dict[str, Any]) -> list[str]:
    columns = facts.get("columns", {})
    order = [columns["replica"]["column"]] if "replica" in columns else []
    for name in columns.get("controls", {}).values():
        order += [name, f"{name}_connected"]
    for name in columns.get("outputs", {}).values():
        order += [name, f"{name}_std", f"{name}_overload"]
    return order


def _with_records(history: "pd.DataFrame") -> "pd.DataFrame":
    """Steps with one column per weight, output and gradient entry, taken from the step's record."""
    import pandas as pd

    if "step_record" not in history:
        return history
    records = [json.loads(text) for text in history["step_record"]]
    wide = pd.DataFrame(
        [
            {
                **{f"weight_{name}": value for name, value in record["weights"].items()},
                **{f"output_{name}": value for name, value in record["outputs"].items()},
                **{f"gradient_{number}": value for number, value in enumerate(record["gradient"] or [])},
                **{f"theta_{number}": value for number, value in enumerate(record["theta"] or [])},
            }
            for record in records
        ],
        index=history.index,
    )
    return history[[name for name in ("loss", "loss_std", "relaxations") if name in history]].join(wide)


def export(run: Run, form: str, folder: Path) -> list[Path]:
    """Write ``run`` into ``folder`` as csv, netcdf or parquet (a JSON file with the metadata beside the tables).

    Returns the files written. ConfigError for another form, or where parquet support is not installed.
    """
    if form not in FORMATS:
        raise ConfigError(f"a run is exported to {', '.join(FORMATS)}, not to {form!r}")
    stem = f"run_{run.run_id}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if form == "netcdf":
            target = folder / f"{stem}.nc"
            run.to_xarray().to_netcdf(target, engine="h5netcdf")
            return [target]
        tables = {"readings": run.readings, "history": run.history, **run.rows}
        written = []
        for name, table in tables.items():
            if len(table):
                target = folder / f"{stem}_{name}.{form}"
                if form == "csv":
                    table.to_csv(target)
                else:
                    table.to_parquet(target)
                written.append(target)
        target = folder / f"{stem}.json"
        target.write_text(json.dumps({"run_id": run.run_id, **run.metadata, "notes": run.notes}, indent=2), encoding="utf-8")
        return [*written, target]
    except ImportError as error:
        raise ConfigError(f"export to {form} needs one more package: pip install 'memristor-hil[export]' ({error})") from error
    except OSError as error:
        raise ConfigError(f"the export cannot be written into {folder}: {error}") from error
