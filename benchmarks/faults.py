"""``python -m benchmarks.faults [--injections N] [--bench NAME]``: training under every kind of fault, judged in the plant.

Each run is stopped by fault after fault and resumed after each, on every bench of ``fault_benches`` in turn; together they have
every instrument that has an emulator. Faults act inside the emulators, their links and the plant, or on the files of the record.
"""

import argparse
import json
import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence

from benchmarks.fault_benches import BENCHES, FaultBench
from benchmarks.fault_judge import Led, Tally
from benchmarks.fault_runs import Campaign

PASSING = 9
"""Troubles of links beside the one lasting fault of each piece of a run."""


def campaign(
    injections: int, seed: int, progress: Callable[[int], None] | None = None, benches: Sequence[FaultBench] = BENCHES
) -> Tally:
    """Inject at least ``injections`` faults, as many on each of ``benches``; what was counted."""
    tally = Tally(progress=progress)
    for place, bench in enumerate(benches):
        wanted = injections * (place + 1) // len(benches)
        with Campaign(bench, seed + place, tally) as runs:
            while tally.injections < wanted:
                runs.one_run(PASSING, wanted)
    return tally


def summary(tally: Tally, seconds: float, benches: Sequence[FaultBench] = BENCHES) -> dict[str, object]:
    """The JSON line. ``by_instrument``: every driver class on ``benches``, also one that no fault came to."""
    by_kind: dict[str, Counter[str]] = {}
    by_model = Counter({model: 0 for bench in benches for model in bench.places().models.values()})
    example: dict[str, str] = {}
    for led in tally.led:
        by_kind.setdefault(led.fault, Counter())[led.to] += 1
        by_model[led.model] += 1
        if led.reason:
            example.setdefault(led.fault, led.reason)
    able = tally.stops == 0 or tally.complete == 0
    return {
        "name": "faults",
        "injections": tally.injections,
        "outputs_left_on": tally.outputs_left_on,
        "limits_exceeded": tally.limits_exceeded,
        "measurements_lost": tally.measurements_lost,
        "wrong_values_accepted": tally.wrong_values_accepted,
        "resumable": 0.0 if able and tally.stops else _share(tally),
        "runs": tally.runs,
        "complete": tally.complete,
        "stops": tally.stops,
        "readings": tally.readings,
        "seconds": round(seconds, 1),
        "led_to": {kind: dict(counts) for kind, counts in sorted(by_kind.items())},
        "by_instrument": dict(sorted(by_model.items())),
        "examples": example,
        "notes": tally.notes,
    }


def _share(tally: Tally) -> float:
    """Share of the stops from which the run went on; 1.0 only if every run was complete in the end."""
    if tally.stops == 0:
        return 1.0
    went_on = min(tally.resumed, tally.stops)
    return went_on / tally.stops * (tally.complete / tally.runs)


def text(found: dict[str, object], led: list[Led]) -> str:
    """For people."""
    lines = [f"{found['injections']} faults in {found['runs']} runs, {found['readings']} readings, {found['seconds']} s"]
    names = ("outputs_left_on", "limits_exceeded", "measurements_lost", "wrong_values_accepted")
    lines += [f"  {name.replace('_', ' '):24s}{found[name]}" for name in names]
    lines += [f"  {'resumable':24s}{float(str(found['resumable'])):.1%} of {found['stops']} stops", "", "what each fault led to:"]
    kinds = sorted({one.fault for one in led})
    by_model = found["by_instrument"]
    if isinstance(by_model, dict):
        lines.insert(-2, "  faults on " + ", ".join(f"{model} {count}" for model, count in by_model.items()))
    for kind in kinds:
        counts = Counter(one.to for one in led if one.fault == kind)
        lines.append(f"  {kind:18s}" + ", ".join(f"{number} {to}" for to, number in counts.most_common()))
        reason = next((one.reason for one in led if one.fault == kind and one.reason), "")
        if reason:
            lines.append(f"      e.g. {reason[:180]}")
    notes = found["notes"]
    if isinstance(notes, list) and notes:
        lines += ["", "what went wrong:", *(f"  {note}" for note in notes)]
    return "\n".join(lines)


def main() -> int:
    """Exit code 0 when nothing was left on, exceeded, lost or wrong, and every run could go on."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument("--injections", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--bench", action="append", choices=[bench.name for bench in BENCHES], help="only this one; repeatable")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line, nothing else")
    options = parser.parse_args()
    begun = time.perf_counter()
    logging.disable(logging.ERROR)  # QCoDeS logs every refused write with its traceback
    benches = [bench for bench in BENCHES if bench.name in (options.bench or [bench.name])]
    tally = campaign(options.injections, options.seed, lambda done: print(f"\r{done} faults", end="", file=sys.stderr), benches)
    print(file=sys.stderr)
    found = summary(tally, time.perf_counter() - begun, benches)
    print(json.dumps(found) if options.json else text(found, tally.led))
    faultless = not any((tally.outputs_left_on, tally.limits_exceeded, tally.measurements_lost, tally.wrong_values_accepted))
    return 0 if faultless and found["resumable"] == 1.0 else 1


if __name__ == "__main__":
    sys.exit(main())
