"""Calibration of a bench at low energy: sources and meters against each other, zeros, and how alike its replicas are.

All sources go together through a few small levels, so that no voltage stands across a device; then each goes alone, so that
it is known what flows at the ammeters; then everything is safe, and pressures are read while they are vented.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hil.bench import Assembled
from hil.calibrate_fit import Ratio, ratio
from hil.check import REST_TOLERANCE, rest_of_pressures
from hil.core.errors import ConfigError, InstrumentError, LimitExceededError
from hil.core.safety import SafetyEnvelope
from hil.core.types import BoolArray, FloatArray, Layout, Quantity, SafeAction, SettlePolicy, Stimulus
from hil.experiment.bench_file import BenchFile

SMALL, SHARE = 0.05, 0.1
"""V, and share of the limit: the larger of both is the largest level."""
PAIR_SHARE = 0.25
"""Share of the limit at which replicas are compared: their noise asks for a signal."""
STEPS = (0.5, 1.0)
ONE_SIDED = (0.25, 0.5, 0.75, 1.0)
"""Levels over the largest one, where both signs are allowed and where one is."""
SETTLE = SettlePolicy(tolerance=3e-4, window=0.5, timeout=120.0)
PAIR_SETTLE = SettlePolicy(tolerance=1e-4, window=0.1, timeout=120.0)
SAMPLES, PAIR_SAMPLES, LOOKS = 10, 20, 12
PRESSURE_READINGS, PRESSURE_PAUSE = 10, 0.5
"""Readings of every vented pressure, and seconds between them: longer than a display takes for a new one."""


@dataclass(frozen=True)
class Plan:
    """What is applied. ``together``: rows in which all sources have one level; ``alone``: row -> the one control that has.

    ``pair``: levels (rows, 2) of A and B, empty without replicas. ``largest``: V by control.
    """

    stimuli: list[Stimulus]
    together: list[int]
    alone: dict[int, str]
    pair: FloatArray
    largest: float


@dataclass(frozen=True)
class Measured:
    """One replica: values, std and overload (n, n_outputs) of ``Plan.stimuli``; std is nan where nothing tells it.

    ``doubt``: V by control, what is not known of its zero by its own instrument's data sheet (one standard deviation).
    """

    name: str
    values: FloatArray
    std: FloatArray
    overload: BoolArray
    doubt: Mapping[str, float]


def plan(bench: BenchFile, envelope: SafetyEnvelope, voltage: float | None = None) -> Plan:
    """Levels inside ``envelope``; ConfigError where nothing can be calibrated."""
    controls = envelope.layout
    sources = [
        k
        for k, channel in enumerate(controls)
        if channel.quantity is Quantity.VOLTAGE and channel.minimum <= 0.0 <= channel.maximum
    ]
    if not sources and len(vented_pressures(bench)) < 2:
        raise ConfigError(
            "there is nothing to calibrate: no source of voltage whose limits hold 0 V, and no two pressures that vent"
        )
    rest = np.array([0.0 if k in sources else channel.safe.value for k, channel in enumerate(controls)])
    connected = np.array([channel.quantity is not Quantity.CONCENTRATION for channel in controls], dtype=np.bool_)

    def at(level: float, which: Sequence[int]) -> Stimulus:
        values = rest.copy()
        values[list(which)] = level
        return Stimulus(values, connected)

    room_up = min((controls.channels[k].maximum for k in sources), default=0.0)
    room_down = min((-controls.channels[k].minimum for k in sources), default=0.0)
    if sources and max(room_up, room_down) <= 0.0:
        raise ConfigError("the sources have no level in common beside 0 V, so they cannot be compared; look at their limits")
    room = max(room_up, room_down)
    top = min(room, voltage if voltage is not None else max(SMALL, SHARE * room))
    levels = _levels(top, room_up, room_down)
    stimuli = [at(level, sources) for level in levels]
    together = list(range(len(stimuli)))
    alone: dict[int, str] = {}
    sign = 1.0 if room_up >= room_down else -1.0
    for k in sources if len(sources) > 1 else ():
        stimulus = at(sign * top, [k])
        if _allowed(envelope, stimulus):
            alone[len(stimuli)] = controls.channels[k].name
            stimuli.append(stimulus)
    stimuli.append(at(0.0, sources))
    together.append(len(stimuli) - 1)
    return Plan(stimuli, together, alone, _pair_levels(bench, min(room_up, room_down), voltage), top)


def _levels(top: float, up: float, down: float) -> list[float]:
    """From 0 and back to 0 on every side that is allowed, each level twice, so that a drift shows as scatter."""
    both = min(up, down) > 0.0
    found = [0.0]
    for sign, room in ((1.0, up), (-1.0, down)):
        steps = [sign * share * min(top, room) for share in (STEPS if both else ONE_SIDED)] if room > 0.0 else []
        found += [*steps, *reversed(steps), 0.0] if steps else []
    return found


def _pair_levels(bench: BenchFile, room: float, voltage: float | None) -> FloatArray:
    """Rows of the voltages of A and B: the same on both, then roles, then exchanged roles."""
    currents = [output for output in bench.outputs.values() if output.quantity is Quantity.CURRENT]
    if not bench.replicas or room <= 0.0 or not currents:
        return np.empty((0, 2))
    top = min(room, voltage if voltage is not None else max(SMALL, PAIR_SHARE * room))
    rows = [(0.0, 0.0)]
    for sign in (1.0, -1.0):
        half, full = 0.5 * sign * top, sign * top
        rows += [(half, half), (full, full), (half, full), (full, half)]
    return np.array(rows)


def _allowed(envelope: SafetyEnvelope, stimulus: Stimulus) -> bool:
    try:
        envelope.check(stimulus.values, stimulus.connected)
    except LimitExceededError:
        return False
    return True


def vented_pressures(bench: BenchFile) -> list[str]:
    """Controls of a pressure that the safe state opens to the atmosphere: there they all have the same."""
    return [
        name
        for name, control in bench.controls.items()
        if control.quantity is Quantity.PRESSURE and control.safe.action is SafeAction.VENT and control.parameter
    ]


def measure(
    assembled: Assembled, bench: BenchFile, wanted: Plan
) -> tuple[list[Measured], dict[str, Ratio], dict[str, FloatArray]]:
    """Everything, on an open backend; it is made safe in between and at the end. Raises what the backend raises.

    The last: readings (n,) of vented pressures (Pa) by control.
    """
    measured = list(_electrical(assembled, bench, wanted)) if wanted.largest > 0.0 else []
    pairs = dict(_pairs(assembled, bench, wanted)) if len(wanted.pair) else {}
    assembled.backend.make_safe()
    return measured, pairs, _vented(assembled, bench)


def _electrical(assembled: Assembled, bench: BenchFile, wanted: Plan) -> Iterator[Measured]:
    backend = assembled.backend
    if not backend.capabilities.replicas:
        readings = backend.measure(wanted.stimuli, SETTLE, SAMPLES)
        yield Measured("", readings.values, readings.std, readings.overload, _doubts(bench, ""))
        return
    names = backend.capabilities.replicas
    found = backend.measure_replicas([[stimulus] * len(names) for stimulus in wanted.stimuli], SETTLE, SAMPLES)
    for k, name in enumerate(names):
        yield Measured(name, found[:, k], np.full(found[:, k].shape, np.nan), np.isnan(found[:, k]), _doubts(bench, name))


def _doubts(bench: BenchFile, replica: str) -> dict[str, float]:
    """Half of what data sheets allow between programmed and measured voltage: limits are taken as two standard deviations."""
    from qcodes.instrument import Instrument

    from instruments.roles import VerifiableSource

    found = {}
    for name, control in bench.controls.items():
        path = bench.replicas[replica][name] if replica else control.parameter
        if control.quantity is Quantity.VOLTAGE:
            instrument, *port, _ = path.split(".")
            driver: Any = Instrument.find_instrument(instrument)
            if isinstance(driver, VerifiableSource):
                found[name] = 0.5 * driver.delivery_reader([".".join(port)])()[0].allowed
    return found


def _pairs(assembled: Assembled, bench: BenchFile, wanted: Plan) -> Iterator[tuple[str, Ratio]]:
    """Every replica against the first (or as ``simultaneous`` pairs them), each output that is a current."""
    backend = assembled.backend
    names, controls = backend.capabilities.replicas, backend.capabilities.controls
    pairs = backend.capabilities.simultaneous or tuple((names[0], other) for other in names[1:])
    outputs = [k for k, output in enumerate(backend.capabilities.outputs) if output.name in bench.outputs]
    currents = [k for k in outputs if backend.capabilities.outputs.channels[k].quantity is Quantity.CURRENT]
    for one, other in pairs:
        rows = [[_driven(controls, b if name == other else a) for name in names] for a, b in wanted.pair]
        looks = []
        for look in range(LOOKS):
            order = slice(None, None, 1 if look % 2 == 0 else -1)
            found = backend.measure_replicas(rows[order], PAIR_SETTLE, PAIR_SAMPLES)
            looks.append(found[order])
        readings = np.array(looks)
        for k in currents:
            first, second = (readings[:, :, names.index(name), k] for name in (one, other))
            label = f"{one}/{other}" + (f" {backend.capabilities.outputs.names[k]}" if len(currents) > 1 else "")
            yield label, ratio(first, second, wanted.pair)


def _driven(controls: Layout, level: float) -> Stimulus:
    values = np.array([level if channel.quantity is Quantity.VOLTAGE else channel.safe.value for channel in controls])
    return Stimulus(values, np.array([channel.quantity is not Quantity.CONCENTRATION for channel in controls], dtype=np.bool_))


def _vented(assembled: Assembled, bench: BenchFile) -> dict[str, FloatArray]:
    names = vented_pressures(bench)
    if len(names) < 2:
        return {}
    rest_of_pressures(assembled, bench, 0.1 * REST_TOLERANCE)
    rows = []
    for _ in range(PRESSURE_READINGS):
        assembled.clock.sleep(PRESSURE_PAUSE)
        rows.append(list(_shown(bench, names).values()))
    return dict(zip(names, np.array(rows).T, strict=True))


def _shown(bench: BenchFile, names: Sequence[str]) -> dict[str, float]:
    """What the controllers themselves show (Pa): open to the air they all have the same, however high their nodes are."""
    from instruments.housekeeping import Watched

    values, problems = Watched([(name, bench.controls[name].parameter) for name in names]).read()
    if problems:
        name, why = next(iter(problems.items()))
        raise InstrumentError(f"the pressure of {name!r} cannot be read: {why}")
    return values
