"""``python -m benchmarks.faults [--injections N] [--bench NAME]``: training under every kind of fault, judged in the plant.

Each run is stopped by fault after fault and resumed after each, on every bench of ``fault_benches``; together they have every
instrument that has an emulator. Faults act inside the emulators, their links and the plant, or on the files of the record.
"""

import argparse
import json
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from itertools import accumulate
from multiprocessing import get_context

from benchmarks.fault_benches import BENCHES, FaultBench
from benchmarks.fault_draws import LASTING, cells
from benchmarks.fault_draws import PASSING as TROUBLES
from benchmarks.fault_judge import Led, Tally
from benchmarks.fault_runs import Campaign

PASSING = (4, 1)
"""Troubles of links beside the one lasting fault, piece by piece in turn: many, or so few that the lasting one is reached."""
FAULTS = (*TROUBLES, *LASTING)


def shares(injections: int, weights: Sequence[int]) -> list[int]:
    """``injections`` split as ``weights`` say."""
    ends = [injections * total // sum(weights) for total in accumulate(weights)]
    return [end - begin for begin, end in zip([0, *ends], ends, strict=False)]


def on_one_bench(bench: FaultBench, seed: int, wanted: int) -> Tally:
    """Inject at least ``wanted`` faults on one bench; what was counted."""
    logging.disable(logging.ERROR)  # QCoDeS logs every refused write with its traceback
    tally = Tally()
    with Campaign(bench, seed, tally) as runs:
        while tally.injections < wanted:
            runs.one_run(PASSING, wanted)
    return tally


def campaign(injections: int, seed: int, benches: Sequence[FaultBench], jobs: int, done: Callable[[str, Tally], None]) -> Tally:
    """Inject at least ``injections`` faults, ``jobs`` benches at a time; what was counted.

    The more there is to break on one of ``benches``, the more it gets. ``done``: told the
    name and the tally of every bench that is through.
    """
    weights = [len(cells(bench.places())) for bench in benches]
    work = [
        (bench, seed + place, wanted)
        for place, (bench, wanted) in enumerate(zip(benches, shares(injections, weights), strict=True))
    ]
    whole = Tally()
    for bench, tally in _tallies(work, jobs):
        whole.add(tally)
        done(bench.name, tally)
    return whole


def _tallies(work: Sequence[tuple[FaultBench, int, int]], jobs: int) -> Iterator[tuple[FaultBench, Tally]]:
    if jobs == 1:
        for one in work:
            yield one[0], on_one_bench(*one)
        return
    # A full disk is a limit of a process, and signal handlers are, too: every bench gets a process of its own.
    with ProcessPoolExecutor(jobs, get_context("spawn"), max_tasks_per_child=1) as pool:
        running = {pool.submit(on_one_bench, *one): one[0] for one in work}
        for future in as_completed(running):
            yield running[future], future.result()


def matrix(led: Sequence[Led], benches: Sequence[FaultBench]) -> dict[str, dict[str, int]]:
    """Driver class, ``device`` or ``record`` -> fault -> how often it acted there. 0 is a gap: it could have, and never did."""
    able = {one for bench in benches for one in cells(bench.places())}
    found: dict[str, dict[str, int]] = {}
    for one in sorted(able | {(each.fault, each.model) for each in led}, key=lambda pair: (pair[1], FAULTS.index(pair[0]))):
        found.setdefault(one[1], {})[one[0]] = 0
    for each in led:
        found[each.model][each.fault] += 1
    return found


def summary(tally: Tally, seconds: float, benches: Sequence[FaultBench] = BENCHES) -> dict[str, object]:
    """The JSON line. ``by_instrument``: every driver class on ``benches``, also one that no fault came to. ``gaps``: faults and
    what they never came to; see ``matrix``."""
    by_kind: dict[str, Counter[str]] = {}
    counts = matrix(tally.led, benches)
    example: dict[str, str] = {}
    for led in tally.led:
        by_kind.setdefault(led.fault, Counter())[led.to] += 1
        if led.reason:
            example.setdefault(led.fault, led.reason)
    return {
        "name": "faults",
        "injections": tally.injections,
        "outputs_left_on": tally.outputs_left_on,
        "limits_exceeded": tally.limits_exceeded,
        "measurements_lost": tally.measurements_lost,
        "wrong_values_accepted": tally.wrong_values_accepted,
        "resumable": _share(tally),
        "runs": tally.runs,
        "complete": tally.complete,
        "stops": tally.stops,
        "readings": tally.readings,
        "seconds": round(seconds, 1),
        "led_to": {kind: dict(counts) for kind, counts in sorted(by_kind.items())},
        "by_instrument": {model: sum(row.values()) for model, row in counts.items()},
        "matrix": counts,
        "gaps": [f"{fault} on {model}" for model, row in counts.items() for fault, count in row.items() if not count],
        "benches": [bench.name for bench in benches],
        "examples": example,
        "notes": tally.notes,
    }


def _share(tally: Tally) -> float:
    """Share of the stops from which the run went on; 1.0 only if every run was complete in the end."""
    went_on = min(tally.resumed, tally.stops) / tally.stops if tally.stops else 1.0
    return went_on * (tally.complete / tally.runs if tally.runs else 1.0)


def text(found: dict[str, object], led: list[Led]) -> str:
    """For people."""
    lines = [f"{found['injections']} faults in {found['runs']} runs, {found['readings']} readings, {found['seconds']} s"]
    names = ("outputs_left_on", "limits_exceeded", "measurements_lost", "wrong_values_accepted")
    lines += [f"  {name.replace('_', ' '):24s}{found[name]}" for name in names]
    lines += [f"  {'resumable':24s}{float(str(found['resumable'])):.1%} of {found['stops']} stops"]
    counts = found["matrix"]
    if isinstance(counts, dict):
        lines += ["", "how often each fault came to each kind of instrument (0: never; empty: it cannot):", *_table(counts)]
    lines += ["", "what each fault led to:"]
    for kind in sorted({one.fault for one in led}):
        counts = Counter(one.to for one in led if one.fault == kind)
        lines.append(f"  {kind:18s}" + ", ".join(f"{number} {to}" for to, number in counts.most_common()))
        reason = next((one.reason for one in led if one.fault == kind and one.reason), "")
        if reason:
            lines.append(f"      e.g. {reason[:180]}")
    notes = found["notes"]
    if isinstance(notes, list) and notes:
        lines += ["", "what went wrong:", *(f"  {note}" for note in notes)]
    return "\n".join(lines)


def _table(counts: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    heads = [fault.replace("half_open", "half").replace("database", "base").split()[-1][:8] for fault in FAULTS]
    yield f"  {'':22s}" + "".join(f"{head:>9s}" for head in heads)
    for model, row in counts.items():
        yield f"  {model:22s}" + "".join(f"{row.get(fault, ''):>9}" for fault in FAULTS)


def _told(begun: float, name: str, tally: Tally) -> None:
    print(f"{time.perf_counter() - begun:6.0f} s  {name}: {tally.injections} faults", file=sys.stderr, flush=True)


def main() -> int:
    """Exit code 0 when nothing was left on, exceeded, lost or wrong, and every run could go on."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument("--injections", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--bench", action="append", choices=[bench.name for bench in BENCHES], help="only this one; repeatable")
    parser.add_argument(
        "--jobs", type=int, default=max(1, (os.cpu_count() or 1) // 2), help="benches at a time; each keeps about one core busy"
    )
    parser.add_argument(
        "--json", action="store_true", help="one JSON object as the only line; the report for people goes to standard error"
    )
    options = parser.parse_args()
    if options.injections < 1 or options.jobs < 1:
        parser.error("--injections and --jobs must be 1 or more")
    begun = time.perf_counter()
    benches = [bench for bench in BENCHES if bench.name in (options.bench or [bench.name])]
    tally = campaign(options.injections, options.seed, benches, min(options.jobs, len(benches)), partial(_told, begun))
    found = summary(tally, time.perf_counter() - begun, benches)
    print(text(found, tally.led), file=sys.stderr if options.json else sys.stdout, flush=True)
    if options.json:
        print(json.dumps(found))
    faultless = not any((tally.outputs_left_on, tally.limits_exceeded, tally.measurements_lost, tally.wrong_values_accepted))
    return 0 if faultless and found["resumable"] == 1.0 else 1


if __name__ == "__main__":
    sys.exit(main())
