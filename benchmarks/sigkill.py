"""``python -m benchmarks.sigkill [--kills N] [--json]``: kill the program at random moments and judge what becomes of the bench.

Emulated instruments run in real time in processes of their own, some of them for one client only, some on serial lines. A
training run (``hil run … --on bench``) is started on them and ended by SIGKILL, every few kills on a bench with syringe pumps.
The judge looks into the plant, past all instruments: when was every terminal told to be safe, when did the last pump stop, and
did a difference of pressure or voltage ever exceed the limit of its edge? In the end every data set is opened with plain QCoDeS.

Exit code 0 when every output was commanded safe in time, no edge limit was exceeded, and every data set can be read.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.kill_scenes import AMBIENT, CLIENTS, EDGE_LIMIT, EMERGENCY_SLEW, OFF, VOLTAGE_LIMIT, Scene, electrical, liquid

TIME_LIMIT = 0.1
"""s after the kill within which every channel is commanded safe."""
EDGE_TOLERANCE = 150.0
"""Pa by which true pressures differ from what calibrated controllers show (0.01 % of reading and of full scale, two of them)."""
VOLTAGE_TOLERANCE = 0.02
"""V by which the true voltages of two source-measure units differ from their levels (data sheets, 20 V range, rounded up)."""
UNCALIBRATED = 300.0
"""Pa: the same for an Alicat of 1.2 bar (0.25 % of full scale)."""
ON_COURSE = 150.0
"""Pa: an outlet whose target is nearer than this to the goal of the emergency is on its way there."""
START_TIMEOUT, REST_TIMEOUT, POLL = 60.0, 30.0, 0.02
LIQUID_EVERY, LIQUID_SPREAD = 4, 20.0
"""Each so-manieth kill is on the bench with pumps; s after its first output within which it comes."""
PUMP_PATIENCE = 10.0
"""s to wait for a pump to run before the kill, on the bench with pumps: it rests between two exchanges."""
ONE_CLIENT_WITH_LIQUIDS = ("mensor", "pump_strong", "pump_weak", "valve", "alicat", "meter")
"""Serial lines but for the first."""


@dataclass
class Verdict:
    """What one kill led to. Times in s after the kill; inf: never. ``driving``: an output was on when the program was killed.

    ``running``: a pump was. ``rested``: in the end nothing was controlled any more. ``edges``, ``volts``: largest difference
    ever across edges with a limit, Pa and V.
    """

    scene: Scene
    driving: bool
    running: bool
    voltages: float
    pressures: float
    pumps: float
    rested: bool = False
    edges: dict[str, float] = field(default_factory=dict)
    volts: dict[str, float] = field(default_factory=dict)

    @property
    def exceeded(self) -> int:
        """Edges whose limit was exceeded, beyond what instruments may be off."""
        pressure = EDGE_LIMIT + (UNCALIBRATED if self.scene.led else EDGE_TOLERANCE)
        voltage = VOLTAGE_LIMIT + VOLTAGE_TOLERANCE
        return sum(value > pressure for value in self.edges.values()) + sum(value > voltage for value in self.volts.values())

    @property
    def latency(self) -> float:
        """When the last channel was commanded safe."""
        return max(self.voltages, self.pressures, self.pumps)


@contextmanager
def running(scene: Scene) -> Iterator["subprocess.Popen[bytes]"]:
    """A training run in a process of its own, under pressure; whatever is left of it is killed at the end."""
    root = str(Path(__file__).resolve().parent.parent)
    paths = [root, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    process = subprocess.Popen(
        [sys.executable, "-m", "hil.cli", "run", *scene.arguments, "--on", "bench", "--data", str(scene.data)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)},
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def voltages(scene: Scene, killed: float) -> tuple[bool, float]:
    """Whether every source is off, and when the last one was told so (s after the kill, not below 0)."""
    ports = scene.sources()
    safe = all(port["source"] == "Open" or abs(port["level"]) < OFF for port in ports)
    return safe, max(0.0, *(port["since"] - killed for port in ports))


def pressures(scene: Scene, killed: float) -> tuple[bool, float]:
    """Whether every outlet is vented, shut and never touched, or on its emergency course; and since when."""
    outlets = scene.virtual.side_door.outlets()
    mine = [outlet for name, ports in outlets.items() if name not in scene.led for outlet in ports.values()]
    safe = all(
        outlet["state"] != "control" or (abs(outlet["target"] - AMBIENT) < ON_COURSE and outlet["slew"] <= EMERGENCY_SLEW * 1.001)
        for outlet in mine
    )
    return safe, max(0.0, *(outlet["since"] - killed for outlet in mine))


def pumps(scene: Scene, killed: float) -> tuple[bool, float]:
    """Whether nothing flows, and when the last pump stopped."""
    flows = [facts for ports in scene.virtual.side_door.flows().values() for facts in ports.values() if "flow" in facts]
    return all(facts["flow"] == 0.0 for facts in flows), max([0.0, *(facts["since"] - killed for facts in flows)])


def when(look: Callable[[Scene, float], tuple[bool, float]], scene: Scene, killed: float) -> float:
    """When ``look`` found everything commanded safe, s after the kill; inf if it never did."""
    while time.monotonic() - killed < REST_TIMEOUT:
        safe, since = look(scene, killed)
        if safe:
            return since
        time.sleep(POLL)
    return float("inf")


def rested(door: Any) -> bool:
    """Whether nothing is controlled any more."""
    return all(outlet["state"] != "control" for ports in door.outlets().values() for outlet in ports.values())


def kill_once(scene: Scene, rng: np.random.Generator) -> Verdict:
    """Start a run, kill it up to ``scene.spread`` s after its first output went on (one in ten: before), judge."""
    door = scene.virtual.side_door
    early = rng.random() < 0.1
    with running(scene) as process:
        begun = time.monotonic()
        if early:
            time.sleep(float(rng.uniform(0.2, 3.0)))
        else:
            while time.monotonic() - begun < START_TIMEOUT and process.poll() is None and not scene.busy():
                time.sleep(POLL)
            time.sleep(float(rng.uniform(0.0, scene.spread)))
            until = time.monotonic() + PUMP_PATIENCE
            while scene.has_pumps and not scene.running_pumps() and process.poll() is None and time.monotonic() < until:
                time.sleep(POLL)
        if process.poll() is not None:
            said = process.communicate()[0].decode(errors="replace")
            raise RuntimeError(f"the run ended by itself before it could be killed (exit code {process.returncode}): {said}")
        flowing = bool(scene.running_pumps())
        driving = scene.busy() or not rested(door)
        killed = time.monotonic()
        os.kill(process.pid, signal.SIGKILL)
    # The judge keeps away from the plant until the time is up, because looking costs the emulators time.
    time.sleep(max(0.0, killed + TIME_LIMIT - time.monotonic()))
    off, on_course, still = (when(look, scene, killed) for look in (voltages, pressures, pumps))
    verdict = Verdict(scene, driving, flowing, off, on_course, still)
    until = time.monotonic() + REST_TIMEOUT
    while not rested(door) and time.monotonic() < until:
        time.sleep(5 * POLL)
    verdict.rested = rested(door)
    extremes = door.extremes()
    verdict.edges = largest(extremes["pressure_difference"], scene.edges)
    verdict.volts = largest(extremes["voltage_difference"], scene.voltage_edges)
    return verdict


def largest(differences: Mapping[str, Sequence[float]], edges: Collection[str]) -> dict[str, float]:
    """Largest difference ever, either way round, across ``edges``."""
    return {edge: max(abs(low), abs(high)) for edge, (low, high) in differences.items() if edge in edges}


def unreadable(data: Path) -> tuple[int, int]:
    """Data sets of ``data``, and how many of them plain QCoDeS cannot read."""
    from qcodes.dataset import connect, load_by_id
    from qcodes.dataset.sqlite.queries import get_last_run

    if not (data / "runs.db").exists():
        return 0, 0  # every run was killed before it began
    connection = connect(data / "runs.db")
    count = get_last_run(connection) or 0
    bad = 0
    for number in range(1, count + 1):
        try:
            load_by_id(number, connection).get_parameter_data()
        except Exception as error:  # noqa: BLE001 - whatever it is, this data set could not be read
            print(f"data set {number}: {error}", file=sys.stderr)
            bad += 1
    connection.close()
    return count, bad


def campaign(kills: int, seed: int, spread: float, folder: Path, liquid_every: int = LIQUID_EVERY) -> dict[str, Any]:
    """All kills, each ``liquid_every``-th on the bench with pumps (0: none); the report."""
    rng = np.random.default_rng(seed)
    verdicts: list[Verdict] = []
    with contextlib.ExitStack() as stack:
        dry = electrical(folder / "electrical", spread)
        stack.callback(dry.virtual.stop)
        scenes = [dry]
        if liquid_every:
            scenes.append(liquid(folder / "liquid", LIQUID_SPREAD))
            stack.callback(scenes[1].virtual.stop)
        for number in range(kills):
            wet = liquid_every and number % liquid_every == liquid_every - 1
            verdicts.append(kill_once(scenes[1] if wet else dry, rng))
            told = verdicts[-1]
            parts = ", ".join(f"{name} {1e3 * getattr(told, name):.1f} ms" for name in ("voltages", "pressures", "pumps"))
            print(f"kill {number + 1}/{kills} ({told.scene.name}): {parts}", file=sys.stderr, flush=True)
    return report(verdicts, [unreadable(scene.data) for scene in scenes])


def report(verdicts: Sequence[Verdict], datasets: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """The JSON line. ``pump_…``: of the kills while a pump ran."""
    driving = [verdict for verdict in verdicts if verdict.driving]
    stops = [verdict.pumps for verdict in verdicts if verdict.running]
    pascal: dict[str, float] = {}
    volt: dict[str, float] = {}
    for verdict in verdicts:
        for worst, found, digits in ((pascal, verdict.edges, 1), (volt, verdict.volts, 3)):
            for edge, value in found.items():
                name = f"{verdict.scene.name}.{edge}"
                worst[name] = max(worst.get(name, 0.0), round(value, digits))
    return {
        "kills": len(verdicts),
        "while_driving": len(driving),
        "outputs_left_on": sum(verdict.latency == float("inf") or not verdict.rested for verdict in verdicts),
        "later_than_limit": sum(verdict.latency > TIME_LIMIT for verdict in verdicts),
        "limit_ms": 1e3 * TIME_LIMIT,
        "median_ms": _ms([verdict.latency for verdict in driving], median),
        "max_ms": _ms([verdict.latency for verdict in driving], max),
        "voltages_median_ms": _ms([verdict.voltages for verdict in driving], median),
        "while_a_pump_ran": len(stops),
        "pump_median_ms": _ms(stops, median),
        "pump_max_ms": _ms(stops, max),
        "limits_exceeded": sum(verdict.exceeded for verdict in verdicts),
        "largest_difference_Pa": pascal,
        "edge_limit_Pa": EDGE_LIMIT,
        "largest_difference_V": volt,
        "edge_limit_V": VOLTAGE_LIMIT,
        "datasets": sum(count for count, _ in datasets),
        "unreadable": sum(bad for _, bad in datasets),
        "one_client_only": sorted({*CLIENTS, *ONE_CLIENT_WITH_LIQUIDS}) if len(datasets) > 1 else sorted(CLIENTS),
    }


def _ms(times: Sequence[float], of: Callable[[Sequence[float]], float]) -> float | None:
    """Milliseconds; None where there is nothing to tell, or something never happened."""
    found = of(times) if times else float("inf")
    return round(1e3 * found, 1) if found < float("inf") else None


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sigkill", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="how often the program is killed")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    parser.add_argument("--spread", type=float, default=3.0, help="seconds after the first output within which to kill")
    parser.add_argument("--liquid-every", type=int, default=LIQUID_EVERY, help="each so-manieth kill is on pumps; 0: none")
    parser.add_argument("--json", action="store_true", help="print the report as one JSON object on the last line")
    options = parser.parse_args()
    if os.name != "posix":
        print("this system has no SIGKILL", file=sys.stderr)
        return 2
    with contextlib.suppress(OSError):
        # Other work on this machine is not what is measured; where the system lets us, it waits.
        os.nice(-10)
    with tempfile.TemporaryDirectory(prefix="hil-sigkill-") as folder:
        found = campaign(options.kills, options.seed, options.spread, Path(folder), options.liquid_every)
    if options.json:
        print(json.dumps(found))
    else:
        print("\n".join(f"{name}: {value}" for name, value in found.items()))
    good = not (found["outputs_left_on"] or found["later_than_limit"] or found["limits_exceeded"] or found["unreadable"])
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
