"""Compare measured slopes with the numerical derivative: on a matched pair plain and swapped, on one device, from a curve.

Everything is pooled over several pairs where they can be exchanged without a hand (a rehearsal draws them); at a bench the
pair that is mounted is measured. Root-mean-square errors are relative to the mean slope over the points (Acharya et al.).

Drift: a gain that all devices share is followed by anchor readings at the largest voltage before and after every sweep, and
the reference is scaled by it. What is left in the comparison is what drift does inside one slope.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import Field, field_validator

from hil.core.errors import BackendError, ConfigError
from hil.core.events import Progress, TableRow
from hil.core.lab import Lab
from hil.core.outcome import Outcome, Summary
from hil.core.types import FloatArray, SettlePolicy, Stimulus
from hil.experiment.fields import FieldError, Fraction, Name
from hil.experiment.protocol import Protocol
from hil.learn.activation import Activation
from hil.learn.error_budget import ErrorBudget, best_delta, error_budget
from hil.learn.iv_curve import IVCurve
from hil.learn.slope import CurveSlope, Probe, SequentialSlope, SlopeMeter, TwoDeviceSlope

__all__ = ["REPEATABLE", "Settings", "plan", "run"]

REPEATABLE = True
"""The same readings lead to the same questions."""

METHODS = ("two_device", "two_device_swap", "sequential", "curve")
ANCHOR_ROWS = 4
"""Readings of all devices at the largest voltage, before and after every sweep."""
TABLE_POINTS = 401


class Settings(Protocol):
    """``delta``: spacing of the two voltages as a fraction of V_max (half the control's range), or "best" for the smallest
    error budget; ``points`` voltages in the middles of equal parts of the range; ``pairs`` specimens, where they can be
    exchanged; ``repeats`` of every sweep, for the reproducibility.
    """

    control: Name = "V"
    output: Name = "I"
    delta: Fraction | None = 0.05
    points: Annotated[int, Field(ge=5, le=10_000)] = 11
    pairs: Annotated[int, Field(ge=1, le=10_000)] = 50
    repeats: Annotated[int, Field(ge=2, le=100)] = 2

    @field_validator("delta", mode="before")
    @classmethod
    def _best(cls, value: object) -> object:
        if value == "best":
            return None
        if value is None or value == 0:
            raise ConfigError("delta must be above 0, or the word best")
        return value


@dataclass(frozen=True, slots=True)
class _Gain:
    """Common gain of the devices as a straight line in time, 1 at the moment they were mounted."""

    start: float
    slope: float
    mounted: float

    def at(self, times: FloatArray) -> FloatArray:
        """Relative to the moment of mounting, (n,)."""
        return np.asarray((self.start + self.slope * times) / (self.start + self.slope * self.mounted))


@dataclass(slots=True)
class _Compared:
    """Measured slopes and the reference at the same voltages, (n_pairs, n_repeats, n_points) each when complete."""

    measured: list[FloatArray]
    reference: list[FloatArray]
    readings_per_point: int = 0

    def results(self, delta: float, budget: ErrorBudget | None) -> dict[str, object]:
        """What the summary says of one method."""
        measured, reference = np.array(self.measured), np.array(self.reference)
        error = measured - reference
        mean = float(np.mean(reference))
        single = np.sqrt(np.mean(error**2, axis=(1, 2))) / mean
        first, second = measured[:, 0], measured[:, 1]
        scaled = [first / reference[:, 0], second / reference[:, 1]]
        expected = reference[:, 0]
        return {
            "rmse_over_mean": float(np.sqrt(np.mean(error**2))) / mean,
            "rmse_mean_of_pairs": float(np.mean(single)),
            "r2": _r2(error, reference),
            "reproducibility_r2": _r2((scaled[1] - scaled[0]) * expected, scaled[0] * expected),
            "delta": delta,
            "readings_per_point": self.readings_per_point,
            "error_budget": {} if budget is None else budget.as_dict(),
        }


def _r2(error: FloatArray, reference: FloatArray) -> float:
    return float(1.0 - np.sum(error**2) / np.sum((reference - np.mean(reference)) ** 2))


def plan(settings: Settings, lab: Lab) -> list[Stimulus]:
    """All voltages that any method can ask for. Raises CapabilityError where there is no pair to be read at one moment."""
    span, voltages = _span(settings, lab), _voltages(settings, lab)
    probe = _probe(settings, lab, (settings.delta or 0.5) * span, np.nan)
    TwoDeviceSlope(probe)
    lab.backend.capabilities.outputs.index(settings.output)
    return probe.stimuli(np.concatenate([*probe.pair(voltages, centred=True), *probe.pair(voltages, centred=False)]))


def run(settings: Settings, lab: Lab) -> Summary:
    """Measure the slopes of every pair by every method and compare; raises what ``plan`` and the backend raise."""
    plan(settings, lab)
    voltages, pairs = _voltages(settings, lab), settings.pairs if lab.exchange is not None else 1
    table = _table(settings, lab)
    noise, mismatch = _calibrate(settings, lab, pairs)
    delta = _delta(settings, lab, table, voltages, noise, mismatch)
    probe = _probe(settings, lab, delta, noise)
    makers: Mapping[str, Callable[[], SlopeMeter]] = {
        "two_device": lambda: TwoDeviceSlope(probe, centred=False),
        "two_device_swap": lambda: TwoDeviceSlope(probe, swap=True),
        "sequential": lambda: SequentialSlope(probe, repeats=2),
        "curve": lambda: CurveSlope(_extracted(settings, lab, voltages)),
    }
    found = {name: _Compared([], []) for name in METHODS}
    for specimen in range(pairs):
        for name in METHODS:
            measured, reference = [], []
            for _ in range(settings.repeats):
                # The anchors hold for what is measured between them, and for nothing after a pause.
                with lab.continuity.unbroken():
                    mounted = _mount(lab, specimen)
                    before = _anchor(settings, lab)
                    begun = lab.clock.now()
                    meter = makers[name]()
                    readings = meter.measure(voltages)
                    ended = lab.clock.now()
                    gain = _gain(before, _anchor(settings, lab), mounted)
                times = begun + (np.arange(len(voltages)) + 0.5) / len(voltages) * (ended - begun)
                if name == "curve":
                    times = np.full(len(voltages), (begun + ended) / 2)  # up and down branch: every point on the average
                found[name].readings_per_point = meter.readings_per_point or 2 * settings.samples
                if not np.all(np.isfinite(readings.slope)):
                    raise BackendError(
                        f"{name}: a reading at {voltages[~np.isfinite(readings.slope)][0]:g} V was in overload or in compliance; "
                        f"choose a larger range for output {settings.output!r}, or a larger compliance"
                    )
                measured.append(readings.slope)
                reference.append(table.slope(voltages) * gain.at(times))
            found[name].measured.append(np.array(measured))
            found[name].reference.append(np.array(reference))
            _keep(lab, name, specimen, voltages, measured, reference)
        lab.events.emit(Progress(specimen + 1, pairs, f"pair {specimen + 1} of {pairs}"))
    results = _results(settings, found, table, voltages, delta, noise, mismatch)
    results |= {"pairs": pairs, "points": len(voltages), "repeats": settings.repeats}
    results |= {"noise_A": noise, "mismatch": mismatch, "mean_slope_S": float(np.mean(table.slope(voltages)))}
    if lab.folder is not None:
        from hil.figures.analog_gradient import save_comparison

        series = {name: (np.array(one.reference), np.array(one.measured)) for name, one in found.items()}
        results["plot"] = str(save_comparison(lab.folder, lab.run_id, voltages, series, results))
    best = min(METHODS, key=lambda name: _rms(found[name]))
    return Summary(Outcome.DONE, f"{pairs} pairs, {len(voltages)} points: least error by {best}", results=results)


def _results(
    settings: Settings,
    found: Mapping[str, _Compared],
    table: Activation,
    voltages: FloatArray,
    delta: float,
    noise: float,
    mismatch: float,
) -> dict[str, object]:
    common: dict[str, Any] = {"mismatch": mismatch, "noise": noise, "samples": settings.samples}
    budgets = {
        "two_device": error_budget(table, voltages, delta, centred=False, **common),
        "two_device_swap": error_budget(table, voltages, delta, swap=True, **common),
        "sequential": error_budget(table, voltages, delta, pair=False, **{**common, "samples": 2 * settings.samples}),
    }
    return {name: one.results(delta if name != "curve" else 0.0, budgets.get(name)) for name, one in found.items()}


def _rms(one: _Compared) -> float:
    return float(np.sqrt(np.mean((np.array(one.measured) - np.array(one.reference)) ** 2)))


def _span(settings: Settings, lab: Lab) -> float:
    """V_max: half of what the control may span, V."""
    channel = lab.backend.capabilities.controls[settings.control]
    span = (channel.maximum - channel.minimum) / 2
    if not np.isfinite(span):
        raise FieldError(f"control {settings.control!r} needs limits on both sides", f"controls.{settings.control}.limits")
    return float(span)


def _voltages(settings: Settings, lab: Lab) -> FloatArray:
    channel = lab.backend.capabilities.controls[settings.control]
    edges = np.linspace(channel.minimum, channel.maximum, settings.points + 1)
    return np.asarray((edges[:-1] + edges[1:]) / 2)


def _policy(settings: Settings, lab: Lab) -> SettlePolicy:
    return settings.settle.policy(lab.backend.capabilities.outputs[settings.output].quantity.value)


def _probe(settings: Settings, lab: Lab, delta: float, noise: float) -> Probe:
    policy = _policy(settings, lab)
    return Probe(lab.backend, policy, delta, settings.control, settings.output, settings.samples, noise)


def _table(settings: Settings, lab: Lab) -> Activation:
    """What the twin believes, as a dense table whose derivative is the reference."""
    channel = lab.backend.capabilities.controls[settings.control]
    voltages = np.linspace(channel.minimum, channel.maximum, TABLE_POINTS)
    probe = _probe(settings, lab, _span(settings, lab) / 2, np.nan)
    currents = lab.twin.predict(probe.stimuli(voltages))[:, lab.backend.capabilities.outputs.index(settings.output)]
    return Activation(voltages, currents)


def _mount(lab: Lab, specimen: int) -> float:
    if lab.exchange is not None:
        lab.exchange(specimen)
    return lab.clock.now()


def _equal(settings: Settings, lab: Lab, voltages: FloatArray) -> FloatArray:
    """Currents of both devices at equal voltages, one reading each, (n, 2)."""
    probe = _probe(settings, lab, _span(settings, lab) / 2, np.nan)
    rows = [[stimulus, stimulus] for stimulus in probe.stimuli(voltages)]
    raw = lab.backend.measure_replicas(rows, _policy(settings, lab), 1)
    return np.asarray(raw[:, :, lab.backend.capabilities.outputs.index(settings.output)])


def _anchor(settings: Settings, lab: Lab) -> tuple[float, float]:
    """Time and mean current of all devices at the largest voltage."""
    top = lab.backend.capabilities.controls[settings.control].maximum
    begun = lab.clock.now()
    currents = _equal(settings, lab, np.full(ANCHOR_ROWS, top))
    return (begun + lab.clock.now()) / 2, float(np.mean(currents))


def _gain(before: tuple[float, float], after: tuple[float, float], mounted: float) -> _Gain:
    slope = (after[1] - before[1]) / (after[0] - before[0]) if after[0] > before[0] else 0.0
    return _Gain(before[1] - slope * before[0], slope, mounted)


def _calibrate(settings: Settings, lab: Lab, pairs: int) -> tuple[float, float]:
    """Noise of one reading (A) and relative mismatch of the two devices, both measured at equal bias.

    Noise from third differences along time at constant voltage (they know no drift), mismatch from I_B/I_A at the ends.
    """
    channel = lab.backend.capabilities.controls[settings.control]
    noises, ratios = [], []
    for specimen in range(min(pairs, 50)):
        with lab.continuity.unbroken():
            _mount(lab, specimen)
            rows = [_equal(settings, lab, np.full(8, end)) for end in (channel.minimum, channel.maximum)]
        for currents in rows:
            noises.append(np.mean(np.diff(currents, 3, axis=0) ** 2) / 20.0)
            ratios.append(np.mean(currents[:, 1]) / np.mean(currents[:, 0]) - 1.0)
    noise = float(np.sqrt(np.mean(noises)))
    scale = float(np.mean(np.abs(np.concatenate([rows[0], rows[1]]))))
    found = np.mean(np.reshape(ratios, (-1, 2)), axis=1) ** 2
    own = 2 * (noise / scale) ** 2 / 16  # what noise alone makes of the ratio
    return noise, float(np.sqrt(max(np.mean(found) - own, 0.0) / 2))


def _delta(settings: Settings, lab: Lab, table: Activation, voltages: FloatArray, noise: float, mismatch: float) -> float:
    if settings.delta is not None:
        return settings.delta * _span(settings, lab)
    per_point = noise / np.sqrt(settings.samples)
    return best_delta(table, voltages, mismatch=mismatch, noise=per_point, swap=True).delta


def _extracted(settings: Settings, lab: Lab, voltages: FloatArray) -> Activation:
    """The first device's curve through the same voltages and the ends of the range, up and down."""
    channel = lab.backend.capabilities.controls[settings.control]
    up = np.concatenate([[channel.minimum], voltages, [channel.maximum]])
    path = np.concatenate([up, up[::-1]])
    probe = _probe(settings, lab, _span(settings, lab) / 2, np.nan)
    readings = lab.backend.measure(probe.stimuli(path), _policy(settings, lab), settings.samples)
    position = lab.backend.capabilities.outputs.index(settings.output)
    curve = IVCurve.of(path, readings.values[:, position], readings.std[:, position], source="analog_gradient")
    return Activation.from_curve(curve, "mean", monotone="allow")


def _keep(
    lab: Lab, name: str, specimen: int, voltages: FloatArray, measured: list[FloatArray], reference: list[FloatArray]
) -> None:
    mean, expected = np.mean(measured, axis=0), np.mean(reference, axis=0)
    for voltage, one, other in zip(voltages, mean, expected, strict=True):
        row: dict[str, float | int | str] = {"method": name, "pair": specimen, "voltage": float(voltage)}
        row |= {"slope": float(one), "reference": float(other)}
        lab.events.emit(TableRow("slopes", row))
