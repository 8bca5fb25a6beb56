"""Check-out of a bench at low energy: leakage, offsets, every device against the twin, isolation, hydrostatic zero.

All sources at 0 V, each source alone at a small voltage, all sources together, and 0 V again; pressures at rest. Only a bench
on which all of that is in order sees more: a good part of the limits, which shows heights (``hil.check_heights``). What the
readings say about each device is found in ``hil.check_fit``; what the wiring does not tell apart stays undecided.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import exp, log1p
from statistics import median
from typing import Any

import numpy as np

from hil.bench import Assembled
from hil.bench_check import conducting, exchanged, identities, leaking, remembering
from hil.bench_pressures import accuracies, corrected_pressures, pressures_now
from hil.check_fit import Fitter, Measured
from hil.check_heights import Strong, explanations, judged, measure_strong, strong_stimuli, unexplained
from hil.core.errors import ConfigError
from hil.core.types import FloatArray, Layout, Quantity, SettlePolicy, Stimulus
from hil.experiment.bench_file import BenchFile
from hil.shown import in_columns

SMALL = 0.05
"""V; the check applies this, or 1 % of the limit where that is more."""
SETTLE = SettlePolicy(tolerance=2e-5, window=0.5, timeout=120.0)
SAMPLES = 10
OFFSET_LIMIT = 0.2
"""Share of the applied voltage that an output may show at 0 V."""
LEAKAGE_LIMIT = 1e-3
"""Share of the compliance that may flow at 0 V."""
PRESSURE_LIMIT = 200.0
"""Pa; pressures at rest may differ by so much from the middle of all, 2 cm of water, or by what their controllers are good to."""
BROKEN = 0.02
"""Of the twin's conductance; less is no clog any more."""
REMEMBERS = "it remembers what was done to it, so that only a break or a short circuit would show"
REST_TOLERANCE, REST_WINDOW, REST_TIMEOUT = 10.0, 1.0, 60.0
"""Pa, s, s: a pressure is at rest once it has moved by less than this in one window."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; ``verdict`` is ok, note or wrong."""

    what: str
    where: str
    found: str
    verdict: str = "ok"


@dataclass(frozen=True)
class Plan:
    """What is applied: ``stimuli`` begin and end at 0 V; ``voltages`` (V) by control; ``together``: all sources at once is
    among them, before the last. ``strong``: larger ones that may follow, see ``hil.check_heights``."""

    stimuli: list[Stimulus]
    voltages: dict[str, float]
    together: bool
    strong: list[Stimulus] = field(default_factory=list)


def plan(controls: Layout, voltage: float | None = None) -> Plan:
    """Low-energy stimuli for ``controls``; pressures at rest, concentrations left alone.

    ConfigError without a voltage source, and for a ``voltage`` (V) that is beyond the limits of one.
    """
    sources = {
        position: channel
        for position, channel in enumerate(controls)
        if channel.quantity is Quantity.VOLTAGE and channel.minimum <= 0.0 <= channel.maximum
    }
    if not sources:
        raise ConfigError("a check needs at least one source of voltage whose limits hold 0 V")
    rest = np.array([0.0 if position in sources else channel.safe.value for position, channel in enumerate(controls)])
    connected = np.array([channel.quantity is not Quantity.CONCENTRATION for channel in controls], dtype=np.bool_)
    chosen: dict[int, float] = {}
    for position, channel in sources.items():
        top = max(channel.maximum, -channel.minimum)
        sign = 1.0 if channel.maximum == top else -1.0
        if voltage is not None and voltage > top:
            raise ConfigError(
                f"{voltage:g} V is beyond the limits of {channel.name!r}, {channel.minimum:g} … {channel.maximum:g} V; a check "
                "needs a small voltage only"
            )
        chosen[position] = sign * (voltage if voltage is not None else min(top, max(SMALL, 0.01 * top)))

    def at(*positions: int) -> Stimulus:
        values = rest.copy()
        for position in positions:
            values[position] = chosen[position]
        return Stimulus(values, connected)

    together = len(chosen) > 1
    stimuli = [at(), *(at(position) for position in chosen), *([at(*chosen)] if together else []), at()]
    voltages = {controls.channels[position].name: value for position, value in chosen.items()}
    # Whoever gives a voltage has a reason not to go beyond it.
    return Plan(stimuli, voltages, together, strong_stimuli(controls, voltages, at()) if voltage is None else [])


def check_out(assembled: Assembled, bench: BenchFile, wanted: Plan, tolerance: float) -> dict[str, Any]:
    """Measure ``wanted`` on the bench and judge it; JSON-able. The backend is opened and closed here.

    ``tolerance``: relative deviation of a conductance that is still the twin's. Raises what the backend raises.
    """
    backend = assembled.backend
    with backend:
        known = identities(bench)
        findings, edges = _electrical(assembled, bench, wanted, tolerance)
        # A bench with a short circuit sees no larger voltage.
        strong = None
        factors = np.array([edge["conductance_over_twin"] for edge in edges.values()])
        if wanted.strong and not _any_wrong(findings):
            strong = measure_strong(assembled, wanted.strong, wanted.stimuli[0], factors, SAMPLES)
        kept = list(_housekeeping(assembled))
        backend.make_safe()
        pressures = corrected_pressures(assembled, rest_of_pressures(assembled, bench))
        good_to = accuracies(bench)
    findings += _hydrostatic(pressures, good_to)
    if _any_wrong(findings) and wanted.strong:
        findings.append(Finding("height", "all", "not judged before the rest is in order", "note"))
    elif strong is not None:
        findings += _heights(assembled, strong, factors, pressures, tolerance)
    findings += kept
    wrong = [finding for finding in findings if finding.verdict == "wrong"]
    return {
        "passed": not wrong,
        "reason": "; ".join(f"{finding.what} {finding.where}: {finding.found}" for finding in wrong[:3]),
        "voltages": wanted.voltages,
        "edges": edges,
        "findings": [asdict(finding) for finding in findings],
        "instruments": known,
    }


def _electrical(
    assembled: Assembled, bench: BenchFile, wanted: Plan, tolerance: float
) -> tuple[list[Finding], dict[str, dict[str, float]]]:
    """What small voltages show: findings, and conductances by edge."""
    findings: list[Finding] = []
    edges: dict[str, dict[str, float]] = {}
    for one in _measure(assembled, wanted):
        findings += _at_zero(one, bench, assembled.backend.capabilities.outputs, wanted)
        factors, judged = _edges(assembled, wanted, one, tolerance)
        edges |= factors
        findings += judged
        scale = np.array([entry["conductance_over_twin"] for entry in factors.values()])
        findings += _isolation(assembled, wanted, one, scale, tolerance)
    return findings, edges


def _any_wrong(findings: Sequence[Finding]) -> bool:
    return any(finding.verdict == "wrong" for finding in findings)


def _edges(
    assembled: Assembled, wanted: Plan, one: Measured, tolerance: float
) -> tuple[dict[str, dict[str, float]], list[Finding]]:
    """Conductances by edge, and what they mean. Where several edges are to blame, one that alone explains all is preferred."""
    network, outputs = assembled.network, assembled.backend.capabilities.outputs
    fitter = Fitter(lambda factors: conducting(assembled, factors), network.n_edges, wanted.stimuli, one)
    fit = fitter.all_edges()
    suffix = f"@{one.name}" if one.name else ""
    names = [name + suffix for name in network.edge_names]
    off = np.maximum(fit.factors, 1.0 / fit.factors) > 1.0 + tolerance
    unsure = fit.uncertainty > 0.5 * log1p(tolerance)
    strange = fit.left.max() > tolerance
    alone = fitter.single_edges(tolerance) if (off & unsure).any() or strange else {}
    elsewhere = list(_elsewhere(assembled, fitter, suffix, tolerance)) if off.any() or strange else []
    factors = np.ones(network.n_edges) if alone or elsewhere else fit.factors
    if len(alone) == 1:
        factors[next(iter(alone))] = next(iter(alone.values()))
    findings = []
    remembers = remembering(assembled)
    for edge, name in enumerate(names):
        factor = alone.get(edge, float(fit.factors[edge]))
        if remembers[edge] and not unsure[edge] and off[edge] and BROKEN < factor < 1.0 / BROKEN:
            findings.append(Finding("edge", name, f"conducts {factor:.3g} of what the twin says; {REMEMBERS}", "note"))
        elif edge in alone:
            others = [repr(names[other]) for other in alone if other != edge]
            which = f"it alone (or {' or '.join(others)} alone) explains" if others else "it alone explains"
            findings.append(_wrong_edge(name, alone[edge], f", and {which} every reading"))
        elif off[edge] and not alone and (not elsewhere or not unsure[edge]) and not strange:
            doubt = f", give or take a factor of {exp(fit.uncertainty[edge]):.2g}, and others may be to blame as well"
            findings.append(_wrong_edge(name, float(fit.factors[edge]), doubt if unsure[edge] else ""))
        elif strange and not alone:
            findings.append(Finding("edge", name, "not judged before the leads are in order", "note"))
        elif unsure[edge]:
            findings.append(Finding("edge", name, "the sources and meters of this bench cannot tell it apart", "note"))
        else:
            findings.append(Finding("edge", name, f"conducts {fit.factors[edge]:.3g} of what the twin says"))
    findings += elsewhere
    if not alone and not elsewhere:
        findings += _unexplained(one, outputs, fit.left, tolerance)
    found = {
        name: {"conductance_over_twin": float(factor), "log_uncertainty": float(doubt)}
        for name, factor, doubt in zip(names, factors, fit.uncertainty, strict=True)
    }
    return found, findings


def _elsewhere(assembled: Assembled, fitter: Fitter, suffix: str, tolerance: float) -> Iterator[Finding]:
    """Leaks and exchanged leads that alone, with every device as the twin says, explain every reading."""
    for node, conductance in fitter.single_leaks(leaking(assembled), tolerance).items():
        text = (
            f"{1.0 / conductance:.3g} ohm to elsewhere explain every reading: a leak in the cell or a cable, or a wet connector"
        )
        yield Finding("leak", f"node {node}{suffix}", text, "wrong")
    for (one, other), twin in exchanged(assembled).items():
        if fitter.explains(twin, tolerance):
            text = "the leads of these two nodes exchanged explain every reading"
            yield Finding("wiring", f"nodes {one} and {other}{suffix}", text, "wrong")


def _measure(assembled: Assembled, wanted: Plan) -> list[Measured]:
    backend = assembled.backend
    replicas = backend.capabilities.replicas
    if not replicas:
        readings = backend.measure(wanted.stimuli, SETTLE, SAMPLES)
        return [Measured("", readings.values, readings.std, np.logical_or.reduce(readings.overload, axis=0))]
    rows = [[stimulus] * len(replicas) for stimulus in wanted.stimuli]
    looks = np.stack([backend.measure_replicas(rows, SETTLE, SAMPLES) for _ in range(3)])
    values, std = looks.mean(axis=0), looks.std(axis=0, ddof=1) / np.sqrt(len(looks))
    lost = np.isnan(values).any(axis=0)
    return [Measured(name, values[:, k], std[:, k], lost[k]) for k, name in enumerate(replicas)]


def rest_of_pressures(assembled: Assembled, bench: BenchFile, tolerance: float = REST_TOLERANCE) -> dict[str, float]:
    """Pressures once they do not move any more; what has not come to rest in time is judged as it stands."""
    before: dict[str, float] = {}
    now = pressures_now(bench)
    end = assembled.clock.now() + REST_TIMEOUT
    while now != before and assembled.clock.now() < end:
        assembled.clock.sleep(REST_WINDOW)
        before, now = now, pressures_now(bench)
        if all(abs(value - before[name]) < tolerance for name, value in now.items()):
            break
    return now


def _at_zero(one: Measured, bench: BenchFile, outputs: Layout, wanted: Plan) -> Iterator[Finding]:
    """Leakage and offsets at 0 V, and outputs in overload."""
    applied = min(abs(value) for value in wanted.voltages.values())
    compliances = {control.node: control.compliance for control in bench.controls.values() if control.compliance is not None}
    for position, channel in enumerate(outputs):
        where = channel.name + (f"@{one.name}" if one.name else "")
        if one.overload[position]:
            yield Finding(
                "overload", where, "beyond its range at a small voltage: a short circuit, or a lead to nowhere", "wrong"
            )
            continue
        value, doubt = float(one.values[0, position]), float(one.std[0, position])
        unit = channel.quantity.value
        if channel.quantity is Quantity.CURRENT:
            limit, what = LEAKAGE_LIMIT * (compliances.get(channel.node or "") or float("inf")), "leakage"
        else:
            limit, what = OFFSET_LIMIT * applied, "offset"
        good = abs(value) <= limit + 3.0 * doubt
        yield Finding(what, where, f"{value:.3g} {unit} at 0 V, {limit:.3g} {unit} allowed", "ok" if good else "wrong")


def _wrong_edge(name: str, factor: float, more: str) -> Finding:
    if factor < BROKEN:
        cause = "a broken wire, a dry electrode or a bubble"
    elif factor < 1.0:
        cause = "a clog or a bubble"
    else:
        cause = "a leak past the device, a short circuit, another concentration, or a lead on the wrong side of it"
    return Finding("edge", name, f"conducts {factor:.3g} of what the twin says{more}: {cause}", "wrong")


def _unexplained(one: Measured, outputs: Layout, misfit: FloatArray, tolerance: float) -> Iterator[Finding]:
    for position, channel in enumerate(outputs):
        worst = float(misfit[:, position].max())
        if worst > tolerance:
            text = f"{100 * worst:.3g} % off whatever the edges conduct: a lead that is loose, or wired to another node"
            yield Finding("wiring", channel.name + (f"@{one.name}" if one.name else ""), text, "wrong")


def _isolation(assembled: Assembled, wanted: Plan, one: Measured, factors: FloatArray, tolerance: float) -> Iterator[Finding]:
    """With all sources at one voltage no current flows between them; what does flow goes to where it should not."""
    outputs = assembled.backend.capabilities.outputs
    levels = {abs(value) for value in wanted.voltages.values()}
    currents = [p for p, channel in enumerate(outputs) if channel.quantity is Quantity.CURRENT and not one.overload[p]]
    if not wanted.together or len(levels) > 1 or not currents:
        return
    applied = levels.pop()
    both = [wanted.stimuli[0], *wanted.stimuli[1:-1]]
    predicted = conducting(assembled, factors).predict(both)
    usual = np.abs(predicted[1:-1] - predicted[0])[:, currents].max()
    flowing = one.values[-2] - one.values[[0, -1]].mean(axis=0) - (predicted[-1] - predicted[0])
    for position in currents:
        name = outputs.channels[position].name + (f"@{one.name}" if one.name else "")
        doubt = 3.0 * float(np.hypot(one.std[-2, position], one.values[0, position] - one.values[-1, position]))
        leak = abs(float(flowing[position]))
        good = leak <= tolerance * usual + doubt
        resistance = applied / max(leak, doubt, 1e-18)
        text = f"{leak:.3g} A with all sources at {applied:g} V, at least {resistance:.3g} ohm to elsewhere"
        yield Finding("isolation", name, text, "ok" if good else "wrong")


def _housekeeping(assembled: Assembled) -> Iterator[Finding]:
    """What a run will watch beside its readings, while sources are on; ConfigError for a parameter that nobody has."""
    watched = assembled.watched()
    if watched is None:
        return
    values, problems = watched.read()
    for name, value in values.items():
        yield Finding("housekeeping", name, f"{value:.6g} {watched.units[name]}".rstrip())
    for name, why in problems.items():
        yield Finding("housekeeping", name, f"cannot be read: {why}", "wrong")


def _heights(
    assembled: Assembled, strong: Strong, factors: FloatArray, pressures: Mapping[str, float], tolerance: float
) -> Iterator[Finding]:
    """Heights of pressure controllers, once every device is known to be what the twin says at small voltages."""
    found = explanations(assembled, factors, strong, pressures)
    left = unexplained(found)
    for position, channel in enumerate(assembled.backend.capabilities.outputs):
        if left[position] > tolerance:
            off = f"{100 * left[position]:.3g} % off the twin, whatever the heights"
            cause = "leads that are exchanged, or a device that bends otherwise"
            yield Finding("larger voltage", channel.name, f"{off}: {cause}", "wrong")
    if left.max() > tolerance:
        return
    for name, text, verdict in judged(found):
        yield Finding("height", name, text, verdict)


def _hydrostatic(pressures: Mapping[str, float], good_to: Mapping[str, float]) -> Iterator[Finding]:
    """Against the middle of all, so that one that is off does not accuse the others. ``good_to`` (Pa): what each may be off."""
    if not pressures:
        return
    middle = median(pressures.values())
    for name, value in pressures.items():
        # The middle is what one of them says, or the mean of two.
        allowed = max(PRESSURE_LIMIT, good_to[name] + median(good_to.values()))
        good = abs(value - middle) <= allowed
        text = f"{value:.6g} Pa at rest, {value - middle:+.3g} Pa from the middle of all, {allowed:.4g} Pa allowed"
        yield Finding("hydrostatic zero", name, text, "ok" if good else "wrong")


def lines(facts: Mapping[str, Any], width: int | None = None) -> Sequence[str]:
    """For reading; no line longer than ``width``, where given."""
    title = f"check of {facts['bench']} on {facts['target']}: {'passed' if facts['passed'] else 'FAILED'}"
    rows = [(row["verdict"], f"{row['what']} {row['where']}", row["found"]) for row in facts["findings"]]
    return [title, *in_columns(rows, width), *(f"  {line}" for line in facts.get("first_checks", ()))]
