"""Sweep the voltage of one terminal and keep its current: staircase, list or cycles, both directions, several rates.

Where the instrument can, a sweep is its own list: one transfer a chunk of five seconds. Points in compliance are marked and
never used for a figure. A cycle begins and ends at 0 V.
"""

from contextlib import nullcontext
from dataclasses import replace
from typing import Annotated, Any

import numpy as np
from pydantic import Field, model_validator

from hil.core.events import Progress, TableRow
from hil.core.lab import Lab
from hil.core.outcome import Outcome, Summary
from hil.core.types import FloatArray, Quantity, Stimulus
from hil.experiment.fields import AsTuple, Farads, FieldError, Name, Strict, Volts, choice, quantity, refuse, unknown
from hil.experiment.protocol import Protocol
from hil.learn import iv_curve as figures_of
from hil.learn.iv_curve import IVCurve

__all__ = ["REPEATABLE", "Settings", "plan", "run"]

REPEATABLE = True
"""The same readings lead to the same questions."""

Rate = Annotated[float, quantity("V/s", above=0.0)]


class Sweep(Strict):
    """``staircase``: start to stop and back; ``cyclic``: 0, stop, start, 0; ``list``: ``voltages`` as they stand.

    ``points`` between start and stop, ends included; ``both_directions`` False leaves out the way back; ``cycles`` repeats.
    """

    shape: Annotated[str, choice("staircase", "cyclic", "list")] = "staircase"
    start: Volts = -1.0
    stop: Volts = 1.0
    points: Annotated[int, Field(ge=2, le=100_000)] = 101
    voltages: Annotated[tuple[Volts, ...], AsTuple] = ()
    both_directions: bool = True
    cycles: Annotated[int, Field(ge=1, le=1000)] = 1

    @model_validator(mode="after")
    def _complete(self) -> "Sweep":
        if (self.shape == "list") != bool(self.voltages):
            refuse("`voltages` belong to the shape `list`, and a list needs them", "voltages")
        if self.shape != "list" and not self.start < self.stop:
            refuse("`start` must lie below `stop`", "start")
        if self.shape == "cyclic" and not self.start <= 0.0 <= self.stop:
            refuse("a cycle begins at 0 V, which must lie between `start` and `stop`", "start")
        return self

    @property
    def step(self) -> float:
        """Voltage between two points, V; of a list the largest."""
        if self.shape == "list":
            return float(np.max(np.abs(np.diff(self.voltages)), initial=0.0))
        return (self.stop - self.start) / (self.points - 1)

    def path(self) -> FloatArray:
        """All voltages in order, (n,)."""
        if self.shape == "list":
            return np.tile(np.array(self.voltages, dtype=np.float64), self.cycles)
        up = np.linspace(self.start, self.stop, self.points)
        if self.shape == "staircase":
            once = np.concatenate([up, up[-2::-1]]) if self.both_directions else up
            return np.concatenate([once, *[once if not self.both_directions else once[1:]] * (self.cycles - 1)])
        above, below = up[up > 0.0], up[up < 0.0]
        once = np.concatenate([above, above[-2::-1], [0.0], below[::-1], below[1:], [0.0]])
        return np.concatenate([[0.0], *[once] * self.cycles])


class Settings(Protocol):
    """``rates``: sweep rates; each sets the time between two points (without them ``settle.dwell`` does). ``blank``: number of
    a run without a device, whose curve is subtracted. ``capacitance`` of cell and cables, whose displacement current is
    subtracted; ``from rates`` takes it from the slowest and the fastest sweep.
    """

    control: Name = "V"
    output: Name = "I"
    sweep: Sweep = Field(default_factory=Sweep)
    rates: Annotated[tuple[Rate, ...], AsTuple] = ()
    blank: Annotated[int, Field(ge=1)] | None = None
    capacitance: Farads | None = None
    capacitance_from_rates: bool = False

    @model_validator(mode="after")
    def _possible(self) -> "Settings":
        if self.capacitance is not None and self.capacitance_from_rates:
            refuse("give `capacitance` or take it from the rates, not both", "capacitance")
        if self.capacitance_from_rates and len(set(self.rates)) < 2:
            refuse("a capacitance from the rates needs two different `rates`", "rates")
        return self


def plan(settings: Settings, lab: Lab) -> list[Stimulus]:
    """Every voltage of the sweep, all other controls at rest."""
    controls, outputs = lab.backend.capabilities.controls, lab.backend.capabilities.outputs
    for name, layout, wanted in (
        (settings.control, controls, Quantity.VOLTAGE),
        (settings.output, outputs, Quantity.CURRENT),
    ):
        field = "control" if layout is controls else "output"
        if name not in layout:
            raise FieldError(unknown(field, name, list(layout.names)), field)
        if layout[name].quantity is not wanted:
            fitting = ", ".join(channel.name for channel in layout if channel.quantity is wanted)
            raise FieldError(
                f"an I-V curve needs a {wanted.name.lower()} here, and {name!r} is none; "
                + (f"take {fitting}" if fitting else f"add {field} with one to the bench file"),
                field,
            )
    return _stimuli(settings, lab, settings.sweep.path())


def run(settings: Settings, lab: Lab) -> Summary:
    """Sweep at every rate and compute what can be said without a model. Raises what the backend raises."""
    from hil.record.curves import CurveFile, curve_path, load_curves, save_curves

    stimuli = plan(settings, lab)
    blank = None
    if settings.blank is not None:
        if lab.folder is None:
            raise FieldError("a blank run is subtracted from a recorded run only", "blank")
        blank = load_curves(curve_path(lab.folder, settings.blank))
    rates: tuple[float | None, ...] = settings.rates or (None,)
    raw: dict[str, IVCurve] = {}
    for number, rate in enumerate(rates):
        name = "dwell" if rate is None else f"{rate:g} V/s"
        raw[name] = _sweep(settings, lab, stimuli, rate, name)
        lab.events.emit(Progress(number + 1, len(rates), name))
    capacitance = settings.capacitance
    if settings.capacitance_from_rates:
        ordered = sorted(raw.values(), key=lambda curve: curve.sweep_rate)
        capacitance = figures_of.displacement_capacitance(ordered[0], ordered[-1])
    corrected = {}
    for name, measured in raw.items():
        left = measured if blank is None else measured.minus(blank.best(name if name in blank.corrected else None))
        corrected[name] = left if capacitance is None else left.without_displacement(capacitance)
    found = {name: _figures(curve, capacitance) for name, curve in corrected.items()}
    results: dict[str, object] = {"points": len(stimuli), "curves": found, "capacitance_F": capacitance}
    limited = sum(int(np.sum(curve.limited)) for curve in raw.values())
    if limited:
        lab.events.warn(f"{limited} points were in compliance; they are kept, marked, and used for nothing")
    if lab.folder is not None:
        from hil.figures.iv_curve import save_curve_figure

        provenance = {"run_id": lab.run_id, "notebook": dict(lab.notes), "bench": dict(lab.backend.snapshot()), "seed": lab.seed}
        file = CurveFile(raw, corrected, provenance, found)
        results["file"] = str(save_curves(file, curve_path(lab.folder, lab.run_id)))
        picture = curve_path(lab.folder, lab.run_id).with_suffix(".png")
        results["plot"] = str(save_curve_figure(raw, corrected, picture))
    return Summary(Outcome.DONE, f"{len(stimuli)} points at {len(raw)} rates", results=results)


def _stimuli(settings: Settings, lab: Lab, voltages: FloatArray) -> list[Stimulus]:
    controls = lab.backend.capabilities.controls
    rows = np.tile([channel.safe.value for channel in controls], (len(voltages), 1))
    rows[:, controls.index(settings.control)] = voltages
    return [Stimulus.of(row) for row in rows]


def _sweep(settings: Settings, lab: Lab, stimuli: list[Stimulus], rate: float | None, name: str) -> IVCurve:
    outputs, controls = lab.backend.capabilities.outputs, lab.backend.capabilities.controls
    policy = settings.settle.policy(outputs[settings.output].quantity.value)
    if rate is not None:
        policy = replace(policy, dwell=settings.sweep.step / rate)
    # A sweep in time cannot be continued in the middle on a bench: the pause would stand in the curve.
    with nullcontext() if policy.dwell is None else lab.continuity.unbroken():
        readings = lab.backend.measure(stimuli, policy, settings.samples)
    position = outputs.index(settings.output)
    voltage = np.array([stimulus.values[controls.index(settings.control)] for stimulus in stimuli])
    current, std = readings.values[:, position], readings.std[:, position]
    branch, cycle = figures_of.directions(voltage)
    duration = readings.time[-1] - readings.time[0]
    actual = float(np.sum(np.abs(np.diff(voltage))) / duration) if duration > 0 else np.nan
    limited = readings.overload[:, position]
    source = f"run {lab.run_id}, {name}"
    for row in zip(voltage, current, std, branch, cycle, limited, readings.time, strict=True):
        columns = ("voltage", "current", "current_std", "branch", "cycle", "limited", "time")
        values: dict[str, Any] = {key: value.item() for key, value in zip(columns, row, strict=True)}
        lab.events.emit(TableRow("iv_curve", {"sweep": name, **values, "limited": int(values["limited"])}))
    return IVCurve(voltage, current, std, branch, cycle, limited, readings.time - readings.time[0], actual, source)


def _figures(curve: IVCurve, capacitance: float | None) -> dict[str, object]:
    """What can be said of one curve; None where it does not cover what a figure needs."""
    usable = curve.where(curve.usable)
    both = set(usable.branch.tolist()) == set(figures_of.BRANCHES)
    found: dict[str, float] = {
        "sweep_rate": curve.sweep_rate,
        "hysteresis_area_W": figures_of.hysteresis_area(usable) if both else np.nan,
        "rectification_ratio": figures_of.rectification_ratio(usable) if len(usable) else np.nan,
        "noise_floor_A": figures_of.noise_floor(usable) if len(usable) else np.nan,
        "zero_current_voltage_V": figures_of.zero_current_voltage(usable) if len(usable) else np.nan,
        "current_at_zero_A": figures_of.current_at_zero(usable) if len(usable) else np.nan,
        "displacement_current_A": np.nan if capacitance is None else capacitance * curve.sweep_rate,
    }
    return {
        **{name: float(value) if np.isfinite(value) else None for name, value in found.items()},
        "points": len(curve),
        "points_in_compliance": int(np.sum(curve.limited)),
        "repairs": list(curve.repairs),
    }
