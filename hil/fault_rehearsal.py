"""What each kind of fault would lead to: a rehearsal per fault and moment on the virtual bench, judged in the plant."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hil.bench import Assembled, Target
from hil.bench_check import fault_kinds, with_error_queue
from hil.core.errors import HilError
from hil.core.events import EventStream
from hil.core.hydrostatics import ATMOSPHERE
from hil.core.lab import Lab
from hil.core.safety import SafetyEnvelope
from hil.core.types import Quantity, Readings, Stimulus
from hil.experiment.bench_file import BenchFile
from hil.liquid_plan import refilled
from hil.plausibility import PlausibilityWatch
from hil.prepared import Prepared
from hil.stock_book import booked

MOMENTS = ("switching on", "measuring")
WATCHED = 4
"""Readings after a fault acted for which the procedure goes on before the rehearsal of that fault ends."""
LATEST = 4
"""A fault is put on before this reading: the steps of a procedure are alike, and time is dear."""
UNANSWERED = ("silence", "half_open", "dead", "drop")
"""Faults in which replies never come."""
PATIENCE = 0.25
"""s that the program waits for a reply of an instrument with such a fault."""
MESSAGES = 20
"""A fault acts when its instrument gets one of this many messages."""
OFF = {"V": 0.02, "Pa": 500.0}
"""A source this near to 0 V is off; a pressure this near to the atmosphere is vented."""
BEYOND = {Quantity.VOLTAGE: 0.02, Quantity.PRESSURE: 150.0}
"""Accuracy of sources and controllers by their data sheets, rounded up: what lies so far outside a limit keeps it."""
NAMES = {Quantity.VOLTAGE: "voltage", Quantity.PRESSURE: "pressure"}


@dataclass(frozen=True)
class Case:
    """One fault as it is put on: ``amount``, ``where`` and ``after`` as the virtual bench takes them."""

    fault: str
    moment: str
    instrument: str
    amount: float
    where: str
    at_reading: int
    after: int


@dataclass(frozen=True)
class Led:
    """What a fault led to: ``end`` is went on, paused, not safe or did not act; ``left_on`` and ``beyond`` are the truth."""

    fault: str
    moment: str
    instrument: str
    where: str
    end: str
    reason: str
    left_on: list[str]
    beyond: list[str]


class _EnoughError(HilError):
    """The rehearsal of a fault has gone on for long enough."""


def cases(bench: BenchFile, rng: np.random.Generator, readings: int, kinds: Sequence[str] | None = None) -> list[Case]:
    """Every fault the virtual bench knows (or ``kinds``), at every moment, on an instrument and a message drawn from ``rng``.

    ``readings``: how many the whole procedure takes.
    """
    driven = [control for control in bench.controls.values() if control.quantity in BEYOND and not bench.replicas]
    meters = sorted({output.instrument for output in bench.outputs.values()})
    found = []
    pumps = [pump for mixer in bench.mixers.values() for pump in mixer.pumps]
    valves = {mixer.valve: mixer.closed for mixer in bench.mixers.values()}
    queues = with_error_queue(bench)
    for fault in fault_kinds(bool(bench.mixers)) if kinds is None else kinds:
        for moment in MOMENTS:
            instrument, where, amount = str(rng.choice(sorted(bench.station.instruments))), "", 1.0
            if fault in ("stuck", "drift"):
                if not driven:
                    continue
                control = driven[int(rng.integers(len(driven)))]
                instrument, where = control.instrument, control.port
                amount = 0.02 * (control.limits[1] - control.limits[0]) if fault == "drift" else 1.0
            elif fault in ("overflow", "nan"):
                instrument = str(rng.choice(meters))
            elif fault == "error":
                if not queues:
                    continue
                instrument = str(rng.choice(queues))
            elif fault in ("clog", "empty"):
                # An exchange is a matter of millilitres: the syringe is empty in the middle of one.
                instrument, amount = str(rng.choice(pumps)), float(rng.uniform(0.0, 1e-6))
            elif fault == "turned":
                instrument = str(rng.choice(sorted(valves)))
                amount = float(1 + valves[instrument] % 2)
            elif fault in ("open", "short"):
                where, amount = str(rng.choice(list(bench.twin.edges))), 1e3
            elif fault == "leak":
                where, amount = str(rng.choice([name for name, node in bench.twin.nodes.items() if not node.ground])), 1e3
            at = 0 if moment == "switching on" else int(rng.integers(1, max(2, min(readings, LATEST))))
            found.append(Case(fault, moment, instrument, amount, where, at, int(rng.integers(1, MESSAGES + 1))))
    return found


def for_rehearsal(prepared: Prepared) -> BenchFile:
    """The bench as it is rehearsed: all that there is of the stocks in the syringes, because nobody stands by to refill them, and
    no calibration, which would be one of other instruments."""
    left = booked(prepared.bench, prepared.request.data, prepared.bench_document.path.name)
    calibration = prepared.bench.calibration.model_copy(update={"use": None})
    return refilled(left).model_copy(update={"calibration": calibration})


def chosen_cases(prepared: Prepared, readings: int, kinds: Sequence[str] | None = None) -> list[Case]:
    """The cases for a protocol, drawn from its seed; see ``cases``."""
    return cases(prepared.bench, np.random.default_rng(prepared.seed), readings, kinds)


def rehearse_case(prepared: Prepared, case: Case, seed: int) -> Led:
    """One rehearsal on a bench of its own, whose imperfections are drawn from ``seed``. HilError where it cannot start."""
    if case.fault in UNANSWERED:
        prepared = replace(prepared, bench=impatient(prepared.bench, case.instrument))
    with prepared.assembled(Target.VIRTUAL, seed=seed) as assembled:
        return _rehearse(prepared, assembled, case)


def impatient(bench: BenchFile, instrument: str) -> BenchFile:
    """The bench where the program waits ``PATIENCE`` for ``instrument``, the one that will not answer: time-outs pass in real
    time, dozens of them. All others keep theirs: a busy machine must not make them look silent."""
    spec = bench.station.instruments[instrument]
    hasty = spec.model_copy(update={"options": {**spec.options, "timeout": PATIENCE}})
    station = bench.station.model_copy(update={"instruments": {**bench.station.instruments, instrument: hasty}})
    return bench.model_copy(update={"station": station})


class _Injector:
    """An observer that puts the fault on after the reading it is for, and ends the rehearsal once enough has been seen."""

    def __init__(self, door: Any, case: Case) -> None:
        self._door, self._case = door, case
        self._seen = 0

    def begin(self) -> None:
        """Before anything is applied."""
        if self._case.at_reading == 0:
            self._inject()

    def __call__(self, stimuli: Sequence[Stimulus], readings: Readings) -> None:
        """Count readings."""
        before, self._seen = self._seen, self._seen + len(stimuli)
        if before < self._case.at_reading <= self._seen:
            self._inject()
        if self._seen >= self._case.at_reading + WATCHED and (
            self._door.happened() or self._seen >= self._case.at_reading + WATCHED * 4
        ):
            raise _EnoughError("enough")

    def _inject(self) -> None:
        case = self._case
        self._door.inject(case.instrument, case.fault, case.amount, where=case.where, after=case.after)


def _rehearse(prepared: Prepared, assembled: Assembled, case: Case) -> Led:
    backend, door = assembled.backend, assembled.virtual.side_door
    capabilities = backend.capabilities
    events = EventStream()
    assembled.warnings.listen(events.warn)
    injector = _Injector(door, case)
    grounded = any(node.ground for node in assembled.network.nodes)
    backend.observers.append(PlausibilityWatch(assembled.twin, capabilities.controls, capabilities.outputs, grounded=grounded))
    backend.observers.append(injector)
    notes = prepared.bench.notebook.model_dump()
    lab = Lab(backend, assembled.twin, assembled.clock, events, prepared.seed, notes, assembled.exchange)
    end, reason, opened = "went on", "", False
    try:
        with backend:
            opened = True
            try:
                injector.begin()
                prepared.procedure.run(prepared.settings, lab)
            except _EnoughError:
                pass  # the end of the rehearsal itself is no error; that the safe state was not reached after it is one
            except HilError as error:
                end, reason = "paused", str(error)
    except HilError as error:
        # Closing tries once more: what fails then, too, was left as it is.
        end, reason = "not safe" if opened else "paused", "; and then: ".join(filter(None, (reason, str(error))))
    if end == "went on":
        reason = "; ".join(events.warnings)
    if case.fault == "dead":
        # A pump that nobody reaches stops when its dose is through; only what goes on after that is left on.
        doses = [mixer.exchange / mixer.flow for mixer in prepared.bench.mixers.values()]
        assembled.clock.sleep(1.1 * max(doses, default=0.0))
    if not door.happened():
        end = "did not act" if end == "went on" else end
    return Led(
        case.fault, case.moment, case.instrument, case.where, end, reason,
        left_on(door), beyond(door, prepared.bench, backend.envelope),
    )  # fmt: skip


def left_on(door: Any) -> list[str]:
    """Outputs of the virtual bench that are still on, or pressures that were not let go."""
    found = []
    for instrument, ports in door.sources().items():
        for port, facts in ports.items():
            # By its level where it has one: an output that is off at 0 V, with a few nA, still drains the cable at its node.
            drives = facts["level"] if facts["source"] == "VoltageSource" else facts["voltage"]
            if facts["source"] != "Open" and abs(drives) > OFF["V"]:
                found.append(f"{instrument}.{port} at {drives:.3g} V")
    for instrument, ports in door.outlets().items():
        for port, facts in ports.items():
            if facts["state"] != "vent" and abs(facts["pressure"] - ATMOSPHERE) > OFF["Pa"]:
                found.append(f"{instrument}.{port} at {facts['pressure']:.6g} Pa")
    for instrument, ports in door.flows().items():
        if any(facts.get("flow", 0.0) != 0.0 for facts in ports.values()):
            found.append(f"{instrument} delivers")
    return found


def beyond(door: Any, bench: BenchFile, envelope: SafetyEnvelope) -> list[str]:
    """Driven nodes of the plant that went outside the limits of their control."""
    extremes = door.extremes()
    found = []
    for name, control in bench.controls.items():
        if control.quantity not in BEYOND:
            continue
        allowed = BEYOND[control.quantity]
        position = envelope.layout.index(name)
        least, most = extremes[NAMES[control.quantity]][control.node]
        # A node that nobody drives has its own rest, which may be outside of what may be applied.
        rest = ATMOSPHERE if control.quantity is Quantity.PRESSURE else 0.0
        zero = rest if bench.pressure_reference == "gauge" else 0.0
        low, high = min(float(envelope.minimum[position]) + zero, rest), max(float(envelope.maximum[position]) + zero, rest)
        if least < low - allowed or most > high + allowed:
            found.append(f"{name}: {least:.6g} … {most:.6g} {control.quantity.value} at its node")
    return found


def lines(found: Sequence[dict[str, Any]]) -> list[str]:
    """For reading."""
    shown = []
    for led in found:
        where = f"{led['instrument']} {led['where']}".strip()
        bad = [*(f"LEFT ON: {one}" for one in led["left_on"]), *(f"BEYOND ITS LIMIT: {one}" for one in led["beyond"])]
        text = "; ".join([led["end"], *bad, *([led["reason"]] if led["reason"] else [])])
        shown.append(f"  fault {led['fault']} on {where} while {led['moment']}: {text}")
    return shown
