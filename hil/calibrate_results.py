"""What the readings of a calibration say: one entry for every source, meter and pressure, each with its standard errors."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from hil.calibrate import Measured, Plan
from hil.calibrate_fit import Line, Ratio, line, linear
from hil.calibration import LARGEST_GAIN_ERROR
from hil.core.types import Channel, FloatArray, Layout, Quantity
from hil.experiment.bench_file import BenchFile
from hil.shown import in_columns

SIGNIFICANT = 2.0
"""An offset is corrected when it is as many standard errors away from 0."""
READBACK = ".readback"


def entries(
    bench: BenchFile, controls: Layout, outputs: Layout, wanted: Plan, measured: Sequence[Measured]
) -> tuple[list[dict[str, Any]], list[str]]:
    """What was found about voltages and currents, and sentences about what could not be compared.

    ``bench`` holds the readbacks and currents that were added for the calibration.
    """
    found: list[dict[str, Any]] = []
    notes: list[str] = []
    for one in measured:
        voltages, said = _voltages(bench, controls, outputs, wanted, one)
        found += voltages
        notes += said
        found += _currents(bench, outputs, wanted, one, voltages)
    return found, list(dict.fromkeys(notes))


def _voltages(
    bench: BenchFile, controls: Layout, outputs: Layout, wanted: Plan, one: Measured
) -> tuple[list[dict[str, Any]], list[str]]:
    found, notes = [], []
    driven = {channel.node for channel in controls.of(Quantity.VOLTAGE)}
    for control in controls.of(Quantity.VOLTAGE):
        meters = [channel for channel in outputs.of(Quantity.VOLTAGE) if channel.node == control.node]
        usable = [channel for channel in meters if not one.overload[:, outputs.index(channel.name)].any()]
        notes += [f"{channel.name} was in overload and was left out" for channel in meters if channel not in usable]
        reference = _reference(bench, usable)
        if reference is None:
            notes.append(f"{control.name}: nothing measures the voltage of its node {control.node!r}, so it stays as it is")
            continue
        true = one.values[:, outputs.index(reference.name)]
        column = controls.index(control.name)
        levels = np.array([stimulus.values[column] for stimulus in wanted.stimuli])
        path = _path(bench, "controls", control.name, one.name)
        if np.ptp(levels) > 0.0:
            found.append(_entry("sources", "controls", control, path, reference, line(levels, true), len(levels)))
        for meter in usable:
            if meter is not reference and np.ptp(true) > 0.0:
                path = _path(bench, "outputs", meter.name, one.name)
                shown = one.values[:, outputs.index(meter.name)]
                found.append(_entry("meters", "outputs", meter, path, reference, line(true, shown), len(levels)))
    for channel in outputs.of(Quantity.VOLTAGE):
        if channel.node not in driven:
            notes.append(
                f"{channel.name}: its node {channel.node!r} is not driven, so that its errors cannot be told from what it "
                f"draws there; put its lead on a driven node for the calibration (--set outputs.{channel.name}.node=…)"
            )
    return found, notes


def _reference(bench: BenchFile, meters: Sequence[Channel]) -> Channel | None:
    """The meter that is taken as true on its node: the one the file names, else a voltmeter, else the source's own."""
    names = {meter.name: meter for meter in meters}
    if bench.calibration.reference in names:
        return names[bench.calibration.reference]
    sources = {control.instrument for control in bench.controls.values()}
    alone = [meter for meter in meters if bench.outputs[meter.name].instrument not in sources]
    return next(iter([*alone, *meters]), None)


def _currents(
    bench: BenchFile, outputs: Layout, wanted: Plan, one: Measured, voltages: Sequence[Mapping[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Zero currents: what ammeters show when the voltages of all sources are 0 by their references.

    At a programmed 0 V a current is i0 + sum(G_j v_j): v_j is what the source was found to deliver there, as far as that is
    known, and G_j what the other rows tell. Only the rows at 0 V give i0: a device that bends or remembers has no one G_j.
    """
    sources = {entry["channel"]: entry for entry in voltages if entry["part"] == "sources"}
    names = [name for name, control in bench.controls.items() if control.quantity is Quantity.VOLTAGE]
    columns = [k for k, control in enumerate(bench.controls.values()) if control.quantity is Quantity.VOLTAGE]
    levels = np.array([stimulus.values[columns] for stimulus in wanted.stimuli])
    at_rest = np.flatnonzero(np.all(levels == 0.0, axis=1))
    for channel in outputs.of(Quantity.CURRENT):
        column = outputs.index(channel.name)
        if one.overload[:, column].any() or not sources:
            continue
        conductances, covariance, _ = linear(levels, one.values[:, column])
        shown = one.values[at_rest, column]
        scatter = float(shown.std(ddof=1))
        noise = float(np.sqrt(np.mean(np.nan_to_num(one.std[at_rest, column]) ** 2)))
        zero, variance = float(shown.mean()), max(scatter, noise) ** 2 / len(at_rest)
        for place, name in enumerate(names, start=1):
            entry = sources.get(name)
            delivered = float(entry["offset"]) if entry else 0.0
            doubt = one.doubt.get(name, abs(delivered))
            if entry is not None and not entry["against"].endswith(READBACK):
                doubt = float(entry["offset_std"])
            zero -= float(conductances[place]) * delivered
            variance += (float(conductances[place]) * doubt) ** 2 + float(covariance[place, place]) * (delivered**2 + doubt**2)
        found = Line(zero, 1.0, float(np.sqrt(variance)), 0.0, scatter)
        path = _path(bench, "outputs", channel.name, one.name)
        yield {**_entry("meters", "outputs", channel, path, None, found, len(at_rest)), "against": "no current"}


def pressures(bench: BenchFile, controls: Layout, vented: Mapping[str, FloatArray]) -> list[dict[str, Any]]:
    """Zeros of pressure controllers against the mean of all; ``vented``: readings (n,) at the atmosphere, Pa, by control.

    A controller that shows z more than the mean holds z less than it is told, so that its offset as a source is -z.
    """
    if len(vented) < 2:
        return []
    table = np.array(list(vented.values()))
    deviation = table - table.mean(axis=0)
    found = []
    for name, row in zip(vented, deviation, strict=True):
        result = Line(-float(row.mean()), 1.0, float(row.std(ddof=1) / np.sqrt(len(row))), 0.0, float(row.std(ddof=1)))
        path = _path(bench, "controls", name, "")
        entry = _entry("pressures", "controls", controls[name], path, None, result, len(row))
        found.append({**entry, "against": "mean of all, vented"})
    return found


def _entry(
    part: str, section: str, channel: Channel, parameter: str, reference: Channel | None, found: Line, points: int
) -> dict[str, Any]:
    plausible = abs(found.gain - 1.0) <= LARGEST_GAIN_ERROR
    sure = abs(found.offset) > SIGNIFICANT * found.offset_std or abs(found.gain - 1.0) > SIGNIFICANT * found.gain_std > 0.0
    why = "" if plausible and sure else "not larger than its error" if plausible else "no instrument in order has such a gain"
    return {
        "part": part,
        "section": section,
        "channel": channel.name,
        "parameter": parameter,
        "unit": channel.quantity.value,
        "against": reference.name if reference is not None else "",
        "offset": found.offset,
        "offset_std": found.offset_std,
        "gain": found.gain,
        "gain_std": found.gain_std,
        "residual": found.residual,
        "points": points,
        "applies": plausible and sure,
        "why_not": why,
    }


def _path(bench: BenchFile, section: str, name: str, replica: str) -> str:
    if replica:
        return bench.replicas[replica][name]
    return bench.controls[name].parameter if section == "controls" else bench.outputs[name].parameter


def pair_entry(found: Ratio) -> dict[str, float]:
    """JSON of one pair; mismatch in percent."""
    return {
        "ratio": found.ratio,
        "ratio_std": found.ratio_std,
        "mismatch_percent": 100.0 * (found.ratio - 1.0),
        "mismatch_percent_std": 100.0 * found.ratio_std,
        "ratio_equal": found.equal,
        "ratio_swapped": found.swapped,
        "zero_voltage_difference": found.shift,
        "zero_voltage_difference_std": found.shift_std,
    }


def lines(facts: Mapping[str, Any], width: int | None = None) -> list[str]:
    """For reading; no line longer than ``width``, where given."""
    title = f"calibration of {facts['bench']} on {facts['target']}, run {facts['run_id']}: {facts['file']}"
    rows = [(entry["part"], f"{entry['channel']} ({entry['parameter']})", _said(entry)) for entry in facts["found"]]
    for name, pair in facts["pairs"].items():
        mismatch = f"{pair['mismatch_percent']:+.3f} +- {pair['mismatch_percent_std']:.2g} %"
        zeros = f"{1e3 * pair['zero_voltage_difference']:+.3g} +- {1e3 * pair['zero_voltage_difference_std']:.2g} mV"
        rows.append(("pair", name, f"currents differ by {mismatch}, voltages of no current by {zeros}"))
    notes = [("note", note) for note in facts["notes"]]
    return [title, *in_columns(rows, width), *in_columns(notes, width)]


def _said(entry: Mapping[str, Any]) -> str:
    gain = f", gain {1e6 * (entry['gain'] - 1):+.1f} +- {1e6 * entry['gain_std']:.1g} ppm" if entry["gain_std"] else ""
    left = f" ({entry['why_not']}: not corrected)" if entry["why_not"] else ""
    offset = f"offset {entry['offset']:+.4g} +- {entry['offset_std']:.2g} {entry['unit']}"
    return f"{offset}{gain}, against {entry['against']}{left}"
