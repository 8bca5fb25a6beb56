"""What the kill benchmark stands on: emulators in real time, a training run that keeps their outputs busy, and what to judge.

``electrical``: the divider with two source-measure units, at whose ends more stands than may stand between them, and two
PACE6000; it trains by pressure. ``liquid``: two syringe pumps, a valve, an Alicat and a Mensor, which trains by concentration, so
that a pump runs most of the time. Some instruments of both accept one client only, or stand on serial lines.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

EDGE_LIMIT = 2000.0
"""Pa across every channel; venting one side alone from the working pressure would put 5000 Pa there."""
WORKING, AMBIENT, EMERGENCY_SLEW = 1.05e5, 1e5, 1e4
VOLTAGE_LIMIT = 2.0
"""V across the device between the two source-measure units, which stand at 5 V and 3.5 V."""
OFF = 0.02
"""V: a terminal below is off (an output-off terminal keeps its offset)."""
CLIENTS = ("smu", "smu2", "pace1", "pace2")
"""Instruments of the electrical scene that serve one client, the last on a serial line."""
LIQUID_PROTOCOL = f"""format: hil-protocol/1
procedure: train_network
title: a training run that is going to be killed
bench: bench.yaml
apply: {{V1: 5 V, V3: 0 V, P1: {WORKING} Pa, P2: {WORKING} Pa}}
targets: {{V2: 4 V}}
weights: concentration
weight_sets: {{concentration: {{start: 0.2 mM, step: 0.01 mM, learning_rate: 3e-4 mM^2/V^2}}}}
gradient: {{method: central_difference, scaling: si}}
settle: {{tolerance: 50 mV, window: 100 ms, timeout: 30 s}}
stop: {{loss_below: 1e-12 V^2, max_steps: 8}}
"""


@dataclass
class Scene:
    """Emulators that run. ``arguments``: of ``hil run``. ``spread``: s after its first output within which to kill.

    ``has_pumps``: whether a kill should find one running. ``led``: pressure controllers whose set-point the guard has to lead, so
    that they are on no course that could be read off. ``edges``, ``voltage_edges``: edges with a limit of pressure, of voltage.
    """

    name: str
    folder: Path
    virtual: Any
    arguments: list[str]
    spread: float
    has_pumps: bool = False
    led: frozenset[str] = frozenset()
    edges: frozenset[str] = field(default_factory=frozenset)
    voltage_edges: frozenset[str] = field(default_factory=frozenset)

    @property
    def data(self) -> Path:
        """Where its runs are recorded."""
        return self.folder / "data"

    def busy(self) -> bool:
        """Whether an output is on: a source, or a pump."""
        return any(abs(port["level"] or 0.0) > OFF for port in self.sources()) or bool(self.running_pumps())

    def sources(self) -> list[dict[str, Any]]:
        """Every port of every source-measure unit."""
        found = self.virtual.side_door.sources()
        return [port for name in found if name.startswith("smu") for port in found[name].values()]

    def running_pumps(self) -> list[str]:
        """Pumps that deliver at this moment."""
        flows = self.virtual.side_door.flows()
        return [name for name, ports in flows.items() if any(facts.get("flow", 0.0) != 0.0 for facts in ports.values())]


def electrical(folder: Path, spread: float) -> Scene:
    """The divider, its ends on two units, one client at a time for most of its instruments."""
    data = _bench("divider_two_units")
    virtual = _start(data, folder)
    arguments = ["voltage_divider", "--bench", str(folder / "bench.yaml"), "--set", "apply.V3=3.5 V"]
    arguments += ["--set", f"weight_sets.pressure.start={WORKING} Pa", "--set", "stop.max_steps=100000"]
    limited = data["edge_limits"]
    volts = frozenset(edge for edge in limited if "voltage" in limited[edge])
    return Scene("electrical", folder, virtual, arguments, spread, edges=frozenset(limited), voltage_edges=volts)


def liquid(folder: Path, spread: float) -> Scene:
    """Pumps, valve, Alicat and Mensor."""
    data = _bench("divider_to_kill")
    virtual = _start(data, folder)
    protocol = folder / "protocol.yaml"
    protocol.write_text(LIQUID_PROTOCOL, encoding="utf-8")
    return Scene("liquid", folder, virtual, [str(protocol)], spread, True, frozenset({"mensor"}), frozenset(data["edge_limits"]))


def _bench(name: str) -> dict[str, Any]:
    from hil.bench import shipped_protocols
    from hil.experiment.loader import read

    own = Path(__file__).parent / "benches" / f"{name}.yaml"
    return read(own if own.exists() else shipped_protocols() / "benches" / f"{name}.yaml").data


def _start(data: dict[str, Any], folder: Path) -> Any:
    """Start the emulators, and put a bench file with their addresses into ``folder``; the handle of their process."""
    from hil.bench_station import start_virtual
    from hil.experiment.bench_file import BenchFile
    from hil.experiment.loader import read

    folder.mkdir()
    path = folder / "bench.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    virtual = start_virtual(read(path).model(BenchFile), 1, real_time=True)
    for name, address in virtual.addresses.items():
        data["station"]["instruments"][name]["address"] = address
    path.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    return virtual
