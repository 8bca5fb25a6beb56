"""Rehearse a protocol on the virtual bench in stepped time: a night of measurement in seconds, and nothing on record."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from hil.bench import Assembled, Target
from hil.bench_station import loading
from hil.core.errors import HilError
from hil.core.events import EventStream
from hil.core.exit_codes import EXIT_CODES, exit_code_of
from hil.core.lab import Lab
from hil.core.outcome import Outcome
from hil.core.types import FloatArray, Layout, Quantity, Readings, Stimulus
from hil.experiment.bench_file import BenchFile
from hil.exposure import Dose, Nearest
from hil.fault_rehearsal import for_rehearsal
from hil.fault_rehearsal import lines as fault_lines
from hil.fault_workers import rehearse_faults
from hil.liquid_plan import lines as liquid_lines
from hil.liquid_plan import planned_use, require_enough
from hil.record.recorder import plain
from hil.run import Prepared, Request, check_plan, prepare
from hil.stock_book import booked

OTHER_BENCH = 7919
"""Added to the seed: a rehearsal must not know the errors that the instruments of the run itself have drawn."""
LOADING_LIMIT = 0.005
"""Share of a node's voltage that instruments may take away before the report warns."""


@dataclass
class Report:
    """What a dry run found; ``facts`` is JSON-able, ``error`` the refusal in one sentence (or empty)."""

    facts: dict[str, Any]
    exit_code: int
    error: str = ""

    def lines(self) -> list[str]:
        """For reading."""
        facts = self.facts
        if not (facts["stimuli_checked"] or facts["planned"]):
            return []  # refused before anything was found: the error says it all
        lines = [f"dry run of {facts['protocol']} on {facts['bench']}: {facts['outcome']}"]
        if facts["stimuli_checked"]:
            lines.append(f"  {facts['stimuli_checked']} stimuli of the plan checked against the limits")
        if facts["relaxations"]:
            lines.append(f"  {facts['relaxations']} relaxations, {facts['hours']:.3g} h on the real bench")
        lines += (f"  {line}" for line in liquid_lines(facts["planned"]))
        for mixer, used in facts["results"].get("liquids", {}).items():
            stock = ", ".join(
                f"{1e6 * volume:.3g} mL of {pump} ({1e6 * used['stock_left'][pump]:.3g} mL left)"
                for pump, volume in used["stock_used"].items()
            )
            lines.append(f"  {mixer}: {used['exchanges']} exchanges in {used['hours']:.3g} h, {stock}")
        if facts["loss"] is not None:
            lines.append(f"  loss {facts['loss']:.3g}{facts['loss_unit']} after {facts['steps']} steps")
        for name, extreme in facts["extremes"].items():
            low, high = extreme["limits"]
            lines.append(
                f"  {name}: {extreme['minimum']:.6g} … {extreme['maximum']:.6g} {extreme['unit']} "
                f"(limits {_open(low, '-')} … {_open(high, '')}), dose {extreme['dose']:.3g} {extreme['dose_unit']}"
            )
        lines += [f"  close to a limit: {sentence}" for sentence in facts["near_limits"]]
        for node, load in facts["loading"].items():
            lines.append(
                f"  node {node}: {load['unloaded']:.6g} V without instruments, {load['loaded']:.6g} V with them "
                f"({100 * load['relative']:.3g} % taken away, {100 * load['relative_by_resistance']:.3g} % by resistance alone)"
            )
        lines += [f"  warning: {message}" for message in facts["warnings"]]
        return [*lines, *fault_lines(facts["faults"])]


def _open(limit: float | None, sign: str) -> str:
    return f"{sign}inf" if limit is None else f"{limit:.6g}"


@dataclass
class _Watch:
    """What was applied, and the worst that the terminals did to a node. Readings come here as they are made."""

    assembled: Assembled
    lowest: FloatArray | None = None
    highest: FloatArray | None = None
    looked: int = 0
    loading: dict[str, dict[str, float]] = field(default_factory=dict)
    last: Stimulus | None = None
    hardest: Stimulus | None = None
    most: float = -1.0
    dose: Dose | None = None

    def __call__(self, stimuli: Sequence[Stimulus], readings: Readings) -> None:
        values = np.array([stimulus.values for stimulus in stimuli])
        low, high = values.min(axis=0), values.max(axis=0)
        self.lowest = low if self.lowest is None else np.minimum(self.lowest, low)
        self.highest = high if self.highest is None else np.maximum(self.highest, high)
        self.last = stimuli[-1]
        volts = [channel.quantity is Quantity.VOLTAGE for channel in self.assembled.backend.capabilities.controls]
        applied = np.max(np.abs(values[:, volts]), axis=1, initial=0.0)
        if applied.max() > self.most:
            self.most, self.hardest = float(applied.max()), stimuli[int(applied.argmax())]
        if self.dose is not None:
            self.dose(stimuli, readings)
        if not self.loading:
            self.look()

    def look(self) -> None:
        """Compare the network with and without the terminals, at the last stimulus and at the one of the largest voltage."""
        for stimulus in (self.hardest, self.last):
            for node, load in self._now(stimulus).items() if stimulus is not None else ():
                if node not in self.loading or load["relative"] > self.loading[node]["relative"]:
                    self.loading[node] = load

    def _now(self, stimulus: Stimulus) -> dict[str, dict[str, float]]:
        lab = self.assembled
        return loading(lab.network, lab.backend.capabilities.controls, lab.virtual, stimulus)

    def extremes(self, controls: Layout) -> dict[str, dict[str, Any]]:
        if self.lowest is None or self.highest is None:
            return {}
        return {
            channel.name: {
                "minimum": float(low),
                "maximum": float(high),
                "limits": [channel.minimum, channel.maximum],
                "unit": channel.quantity.value,
                **({} if self.dose is None else self.dose.of(channel.name)),
            }
            for channel, low, high in zip(controls, self.lowest, self.highest, strict=True)
        }


def dry_run(request: Request, faults: bool = False, told: Callable[[int, int], None] | None = None) -> Report:
    """Rehearse ``request`` on the virtual bench. Never raises a HilError: a refusal is part of the report.

    ``faults``: then once more for every kind of fault at every moment; ``told`` hears how many of how many are done.
    """
    facts: dict[str, Any] = {
        "protocol": request.protocol,
        "bench": request.bench,
        "target": Target.VIRTUAL.value,
        "outcome": Outcome.FAILED.value,
        "stimuli_checked": 0,
        "relaxations": 0,
        "hours": 0.0,
        "steps": 0,
        "loss": None,
        "loss_floor": None,
        "loss_unit": "",
        "extremes": {},
        "near_limits": [],
        "loading": {},
        "faults": [],
        "planned": {},
        "refusal": None,
        "warnings": [],
        "results": {},
    }
    try:
        prepared = prepare(request)
        facts["protocol"], facts["bench"] = prepared.name, prepared.bench_document.path.name
        stocked = replace(prepared, bench=booked(prepared.bench, request.data, facts["bench"]))
        facts["planned"] = planned_use(stocked)
        with prepared.located():
            require_enough(stocked.bench, facts["planned"])
        seed = (prepared.bench.virtual.seed if request.seed is None else request.seed) + OTHER_BENCH
        rehearsed = replace(prepared, bench=for_rehearsal(prepared))
        with rehearsed.assembled(Target.VIRTUAL, seed=seed) as assembled:
            used = prepared.bench.calibration.use
            if used is not None:
                assembled.warnings(f"the calibration {used} is left out: instruments in a rehearsal have errors of their own")
            code = _rehearse(rehearsed, assembled, facts)
        if faults:
            facts["faults"] = rehearse_faults(prepared, seed, facts["relaxations"], told=told)
    except HilError as error:
        facts["refusal"] = str(error)
        return Report(plain(facts), exit_code_of(error), str(error))
    return Report(plain(facts), code)


def _rehearse(prepared: Prepared, assembled: Assembled, facts: dict[str, Any]) -> int:
    backend = assembled.backend
    events = EventStream()
    assembled.warnings.listen(events.warn)
    notes = prepared.bench.notebook.model_dump()
    lab = Lab(backend, assembled.twin, assembled.clock, events, prepared.seed, notes, assembled.exchange)
    facts["stimuli_checked"] = len(check_plan(prepared, lab))
    watch = _Watch(assembled)
    backend.observers.append(watch)
    begun = assembled.clock.now()
    watch.dose = Dose(backend.capabilities.controls, begun)
    compliances = {
        name: control.compliance
        for name, control in prepared.bench.controls.items()
        if control.quantity is Quantity.VOLTAGE and control.compliance is not None
    }
    nearest = Nearest(backend.envelope, begun, lambda: _flows(prepared.bench, assembled.virtual.side_door), compliances)
    backend.observers.append(nearest)
    try:
        with prepared.located(), backend:
            summary = prepared.procedure.run(prepared.settings, lab)
            watch.look()
        facts |= {
            "outcome": summary.outcome.value,
            "steps": summary.steps,
            "loss": summary.loss,
            "loss_floor": summary.loss_floor,
            "loss_unit": f" {unit}^2" if (unit := getattr(prepared.settings, "output_unit", "")) else "",
            "results": {"reason": summary.reason, **summary.results},
        }
        return EXIT_CODES[summary.outcome]
    finally:
        facts["relaxations"] = backend.relaxations
        facts["hours"] = (assembled.clock.now() - begun) / 3600.0
        facts["results"] |= backend.usage()
        facts["extremes"] = watch.extremes(backend.capabilities.controls)
        facts["near_limits"] = nearest.sentences()
        facts["loading"] = watch.loading
        facts["warnings"] = [*events.warnings, *_loading_warnings(watch.loading), *assembled.virtual.side_door.troubles()]


def _flows(bench: BenchFile, door: Any) -> Iterator[tuple[str, float, float]]:
    """Control, V, A of every terminal that drives a voltage now, in the plant."""
    now = door.sources()
    for name, control in bench.controls.items():
        if control.quantity is Quantity.VOLTAGE:
            for parameter in [paths[name] for paths in bench.replicas.values()] or [control.parameter]:
                instrument, *port, _ = parameter.split(".")
                facts = now[instrument][".".join(port)]
                if facts["source"] == "VoltageSource":
                    yield name, float(facts["voltage"]), float(facts["current"])


def _loading_warnings(loads: Mapping[str, Mapping[str, float]]) -> list[str]:
    return [
        f"the instruments take {100 * load['relative']:.3g} % of the voltage at node {node!r} away "
        f"({load['unloaded']:.4g} V becomes {load['loaded']:.4g} V): {100 * load['relative_by_resistance']:.3g} % by their input "
        f"resistance of {load['resistance']:.3g} ohm, the rest by their bias current of {load['bias_current']:.3g} A; "
        "use a meter with a higher input resistance, or more channels in parallel"
        for node, load in loads.items()
        if load["relative"] > LOADING_LIMIT
    ]
