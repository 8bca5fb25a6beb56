"""``python -m benchmarks.sigkill [--kills N] [--json]``: kill the program at random moments and judge what becomes of the bench.

Emulated instruments run in real time in a process of their own, some of them for one client only, one on a serial line. A
training run (``hil run … --on bench``) is started on them and ended by SIGKILL. The judge looks into the plant, past all
instruments: when was every terminal told to be safe, and did a difference of pressure ever exceed the limit of its edge?
In the end every data set is opened with plain QCoDeS.

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
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

TIME_LIMIT = 0.1
"""s after the kill within which every channel is commanded safe."""
EDGE_LIMIT = 2000.0
"""Pa across every channel; venting one side alone from the working pressure would put 5000 Pa there."""
EDGE_TOLERANCE = 150.0
"""Pa by which true pressures differ from what calibrated controllers show (0.01 % of reading and of full scale, two of them)."""
WORKING, AMBIENT, EMERGENCY_SLEW = 1.05e5, 1e5, 1e4
OFF = 0.02
"""V: a terminal below is off (an output-off terminal keeps its offset)."""
ON_COURSE = 150.0
"""Pa: an outlet whose target is nearer than this to the goal of the emergency is on its way there."""
CLIENTS = {"smu": {"clients": 1}, "pace1": {"clients": 1}, "pace2": {"transport": "serial"}}
START_TIMEOUT, REST_TIMEOUT, POLL = 60.0, 30.0, 0.02


@dataclass
class Verdict:
    """What one kill led to. Times in s after the kill; inf: never. ``driving``: an output was on when the program was killed."""

    driving: bool
    voltages: float
    pressures: float
    edges: dict[str, float] = field(default_factory=dict)

    @property
    def latency(self) -> float:
        """When the last channel was commanded safe."""
        return max(self.voltages, self.pressures)


def bench_file(folder: Path) -> tuple[Path, Any]:
    """Start the emulators of the divider bench; a bench file with their addresses, and the handle of their process."""
    from hil.bench import shipped_protocols
    from hil.bench_station import start_virtual
    from hil.experiment.bench_file import BenchFile
    from hil.experiment.loader import find, read

    document = read(find("divider", None, shipped_protocols() / "benches", "bench file"))
    data = document.data
    data["virtual"]["instruments"] = CLIENTS
    data["edge_limits"] = {edge: {"pressure": f"{EDGE_LIMIT} Pa"} for edge in data["twin"]["edges"]}
    for name in ("P1", "P2", "P3"):
        data["controls"][name]["emergency_slew"] = f"{EMERGENCY_SLEW} Pa/s"
    virtual = start_virtual(document.model(BenchFile), 1, real_time=True)
    for name, address in virtual.addresses.items():
        data["station"]["instruments"][name]["address"] = address
    path = folder / "bench.yaml"
    # JSON is YAML, too.
    path.write_text(json.dumps(data), encoding="utf-8")
    return path, virtual


@contextmanager
def running(bench: Path, data: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A training run in a process of its own, under pressure; whatever is left of it is killed at the end."""
    root = str(Path(__file__).resolve().parent.parent)
    paths = [root, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    command = [sys.executable, "-m", "hil.cli", "run", "voltage_divider", "--on", "bench", "--bench", str(bench)]
    command += ["--data", str(data), "--set", f"weight_sets.pressure.start={WORKING} Pa", "--set", "stop.max_steps=100000"]
    process = subprocess.Popen(
        command,
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


def voltages(door: Any, killed: float) -> tuple[bool, float]:
    """Whether every source is off, and when the last one was told so (s after the kill, not below 0)."""
    ports = door.sources()["smu"].values()
    safe = all(port["source"] == "Open" or abs(port["level"]) < OFF for port in ports)
    return safe, max(0.0, *(port["since"] - killed for port in ports))


def pressures(door: Any, killed: float) -> tuple[bool, float]:
    """Whether every outlet is vented, shut and never touched, or on its emergency course; and since when."""
    outlets = [outlet for ports in door.outlets().values() for outlet in ports.values()]
    safe = all(
        outlet["state"] != "control" or (abs(outlet["target"] - AMBIENT) < ON_COURSE and outlet["slew"] <= EMERGENCY_SLEW * 1.001)
        for outlet in outlets
    )
    return safe, max(0.0, *(outlet["since"] - killed for outlet in outlets))


def when(look: Any, door: Any, killed: float) -> float:
    """When ``look`` found everything commanded safe, s after the kill; inf if it never did."""
    while time.monotonic() - killed < REST_TIMEOUT:
        safe, since = look(door, killed)
        if safe:
            return float(since)
        time.sleep(POLL)
    return float("inf")


def rested(door: Any) -> bool:
    """Whether nothing is controlled any more."""
    return all(outlet["state"] != "control" for ports in door.outlets().values() for outlet in ports.values())


def kill_once(bench: Path, data: Path, virtual: Any, rng: np.random.Generator, spread: float) -> Verdict:
    """Start a run, kill it up to ``spread`` s after its first output went on (one in ten: before), judge."""
    door = virtual.side_door
    early = rng.random() < 0.1
    with running(bench, data) as process:
        begun = time.monotonic()
        if early:
            time.sleep(float(rng.uniform(0.2, 3.0)))
        else:
            while time.monotonic() - begun < START_TIMEOUT and process.poll() is None:
                if abs(door.sources()["smu"]["smua"]["level"]) > OFF:
                    break
                time.sleep(POLL)
            time.sleep(float(rng.uniform(0.0, spread)))
        if process.poll() is not None:
            said = process.communicate()[0].decode(errors="replace")
            raise RuntimeError(f"the run ended by itself before it could be killed (exit code {process.returncode}): {said}")
        driving = abs(door.sources()["smu"]["smua"]["level"]) > OFF or not rested(door)
        killed = time.monotonic()
        os.kill(process.pid, signal.SIGKILL)
    # The judge keeps away from the plant until the time is up, because looking costs the emulators time.
    time.sleep(max(0.0, killed + TIME_LIMIT - time.monotonic()))
    verdict = Verdict(driving, when(voltages, door, killed), when(pressures, door, killed))
    until = time.monotonic() + REST_TIMEOUT
    while not rested(door) and time.monotonic() < until:
        time.sleep(5 * POLL)
    differences = door.extremes()["pressure_difference"]
    verdict.edges = {edge: max(abs(low), abs(high)) for edge, (low, high) in differences.items()}
    return verdict


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


def campaign(kills: int, seed: int, spread: float, folder: Path) -> dict[str, Any]:
    """All kills on one bench; the report."""
    rng = np.random.default_rng(seed)
    bench, virtual = bench_file(folder)
    try:
        verdicts = []
        for number in range(kills):
            verdicts.append(kill_once(bench, folder / "data", virtual, rng, spread))
            latest = verdicts[-1]
            print(
                f"kill {number + 1}/{kills}: {1e3 * latest.latency:.1f} ms (voltages {1e3 * latest.voltages:.1f} ms)",
                file=sys.stderr,
                flush=True,
            )
    finally:
        virtual.stop()
    latencies = [verdict.latency for verdict in verdicts if verdict.driving] or [0.0]
    worst = {edge: max(verdict.edges[edge] for verdict in verdicts) for edge in verdicts[0].edges}
    count, bad = unreadable(folder / "data")
    return {
        "kills": kills,
        "while_driving": sum(verdict.driving for verdict in verdicts),
        "outputs_left_on": sum(verdict.latency == float("inf") for verdict in verdicts),
        "later_than_limit": sum(verdict.latency > TIME_LIMIT for verdict in verdicts),
        "limit_ms": 1e3 * TIME_LIMIT,
        "median_ms": round(1e3 * median(latencies), 1),
        "max_ms": round(1e3 * max(latencies), 1) if max(latencies) < float("inf") else None,
        "voltages_median_ms": round(1e3 * median([v.voltages for v in verdicts if v.driving] or [0.0]), 1),
        "limits_exceeded": sum(value > EDGE_LIMIT + EDGE_TOLERANCE for value in worst.values()),
        "largest_difference_Pa": {edge: round(value, 1) for edge, value in worst.items()},
        "edge_limit_Pa": EDGE_LIMIT,
        "datasets": count,
        "unreadable": bad,
        "one_client_only": sorted(CLIENTS),
    }


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sigkill", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="how often the program is killed")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    parser.add_argument("--spread", type=float, default=3.0, help="seconds after the first output within which to kill")
    parser.add_argument("--json", action="store_true", help="print the report as one JSON object on the last line")
    options = parser.parse_args()
    if os.name != "posix":
        print("this system has no SIGKILL", file=sys.stderr)
        return 2
    with contextlib.suppress(OSError):
        # Other work on this machine is not what is measured; where the system lets us, it waits.
        os.nice(-10)
    with tempfile.TemporaryDirectory(prefix="hil-sigkill-") as folder:
        report = campaign(options.kills, options.seed, options.spread, Path(folder))
    if options.json:
        print(json.dumps(report))
    else:
        print("\n".join(f"{name}: {value}" for name, value in report.items()))
    good = not (report["outputs_left_on"] or report["later_than_limit"] or report["limits_exceeded"] or report["unreadable"])
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
