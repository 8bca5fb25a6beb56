"""The benches of the fault campaign: a bench file, a protocol, and how exact its readings are; everything else is derived.

To put an instrument into the campaign: write a bench file with it (in ``protocols/benches`` where a user would want it, else in
``benchmarks/benches``) and add one entry to ``BENCHES``.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from hil.bench import shipped_protocols
from hil.core.hydrostatics import ATMOSPHERE
from hil.core.types import Quantity
from hil.experiment.bench_file import BenchFile, Control
from hil.experiment.loader import Document, read
from simulated_backend.virtual_bench.emulator import has_error_queue

TIMEOUT = 0.25
"""s that a driver waits for a reply: short, because a silent instrument costs real time."""
QUICK = {Quantity.VOLTAGE: "250 V/s", Quantity.PRESSURE: "500 mbar/s"}
"""Slews of the campaign: fast, because the emulated time of a ramp costs messages."""
EDGE_PRESSURE = "150 mbar"
"""Limit across every edge between two nodes with a pressure of their own."""
REST = {Quantity.VOLTAGE: 0.0, Quantity.PRESSURE: ATMOSPHERE}
"""What a node has that nobody drives."""
TEMPLATE = """format: hil-protocol/1
procedure: train_network
title: a short training run under faults
bench: {{bench}}
apply: {{apply}}
targets: {{targets}}
weights: {weights}
weight_sets: {{{{{weights}: {{{{{change}}}}}}}}}
gradient: {{{{method: forward_difference, scaling: si}}}}
settle: {{{{{settle}}}}}
stop: {{{{loss_below: 1e-12 V^2, max_steps: {steps}}}}}
final_samples: 3
"""
"""A short training; ``bench``, ``apply`` and ``targets`` are filled in last."""
PRESSURES = TEMPLATE.format(
    weights="pressure",
    change="start: 1 bar, step: 5 mbar, learning_rate: 1.5e-4 bar^2/V^2",
    settle="tolerance: 0.5 mV, window: 200 ms, timeout: 20 s",
    steps=6,
)
UNSTEADY = PRESSURES.replace("tolerance: 0.5 mV", "tolerance: 6 mV")
"""For controllers that hold a pressure less well."""
CONCENTRATIONS = TEMPLATE.format(
    weights="concentration",
    change="start: 0.2 mM, step: 0.01 mM, learning_rate: 3e-4 mM^2/V^2",
    settle="tolerance: 2 mV, window: 1 s, timeout: 120 s",
    steps=2,
)
"""Two steps only: every reading costs an exchange or two."""
IDEAL_ELECTRODES = {
    "seed": 1,
    "plant": {"electrodes": "ideal"},
    "instruments": {
        "pump_weak": {"diameter": 0.0267, "content": 5e-5, "capacity": 6e-5},
        "pump_strong": {"diameter": 0.0267, "content": 5e-5, "capacity": 6e-5},
        "valve": {"positions": 4},
    },
}
"""The section ``virtual`` of the bench by pumps and valve, with electrodes that stand where their terminals do."""


@dataclass(frozen=True)
class FaultBench:
    """One bench. ``name``: of its file. ``apply`` and ``targets``: control or output -> value, as a protocol has them.

    ``reading_error``: output -> by how much (V, A) a reading may differ from the plant: by the data sheet of its meter, rounded
    up. ``tolerance``: control -> the same for what a source delivers, where it is not what ``fault_judge.TOLERANCE`` says.
    ``changes``: sections of the bench file that are other in the campaign.
    """

    name: str
    apply: Mapping[str, str]
    targets: Mapping[str, str]
    reading_error: Mapping[str, float]
    protocol: str = PRESSURES
    tolerance: Mapping[str, float] = field(default_factory=dict)
    changes: Mapping[str, Any] = field(default_factory=dict)

    def path(self) -> Path:
        """The bench file."""
        own = Path(__file__).parent / "benches" / f"{self.name}.yaml"
        return own if own.exists() else shipped_protocols() / "benches" / f"{self.name}.yaml"

    def document(self, timeout: float = TIMEOUT) -> Document:
        """The bench file with short time-outs (s), fast ramps and limits across edges."""
        document = read(self.path())
        data = document.data
        for spec in data["station"]["instruments"].values():
            spec.setdefault("options", {})["timeout"] = timeout
        bench = document.model(BenchFile)
        for name, control in bench.controls.items():
            if control.quantity in QUICK:
                data["controls"][name]["slew"] = QUICK[control.quantity]
        pressured = {one.node for one in bench.controls.values() if one.quantity is Quantity.PRESSURE}
        edges = {name for name, edge in bench.twin.edges.items() if {edge.base, edge.tip} <= pressured}
        if edges:
            data["edge_limits"] = {name: {"pressure": EDGE_PRESSURE} for name in edges}
        data.update(self.changes)
        return document

    def write(self, folder: Path, timeout: float = TIMEOUT) -> Path:
        """Put bench.yaml and faults.yaml into ``folder``; the path of the protocol."""
        # JSON would do but for numbers such as 5e-05, which YAML takes for text.
        (folder / "bench.yaml").write_text(yaml.safe_dump(self.document(timeout).data, sort_keys=False), encoding="utf-8")
        path = folder / "faults.yaml"
        text = self.protocol.format(bench="bench.yaml", apply=json.dumps(self.apply), targets=json.dumps(self.targets))
        path.write_text(text, encoding="utf-8")
        return path

    def places(self) -> "Places":
        """What there is to break."""
        return Places(self, self.document().model(BenchFile))


class Places:
    """What there is on a bench, by name: all that faults can be put on, and all that the judge looks at.

    ``instruments``: every one. ``readers``: those whose readings are used. ``queues``: those with an error queue.
    ``sources``: controls that one terminal drives. ``edges``, ``nodes``: of the network, without its ground. ``stocks``: of
    mixers, by their pumps. ``syringes``: pumps that have one. ``closed``: the valves of mixers, and the position of each that is
    safe; ``stays``: those of them that stay where they are while a pump may still run. ``runs_on``: pump -> s after which it
    stands still although nobody can reach it: what its watchdog or its dose allows.
    """

    def __init__(self, bench: FaultBench, file: BenchFile) -> None:
        self.name, self.file = bench.name, file
        self.models = {name: spec.type.rsplit(".", 1)[-1] for name, spec in file.station.instruments.items()}
        self.instruments = tuple(self.models)
        read = {one.instrument for one in (*file.controls.values(), *file.outputs.values())}
        read |= {name for mixer in file.mixers.values() for name, stock in mixer.pumps.items() if stock.syringe.diameter is None}
        self.readers = tuple(name for name in self.instruments if name in read)
        self.queues = tuple(name for name in self.instruments if has_error_queue(self.models[name]))
        self.sources = tuple(one for one in file.controls.values() if one.instrument in self.models)
        self.edges = tuple(file.twin.edges)
        self.closed = {mixer.valve: mixer.closed for mixer in file.mixers.values()}
        self.stays = {mixer.valve for mixer in file.mixers.values() if mixer.waste != mixer.closed}
        self.stocks = {pump: stock for mixer in file.mixers.values() for pump, stock in mixer.pumps.items()}
        self.syringes = tuple(name for name, stock in self.stocks.items() if stock.syringe.diameter is not None)
        self.runs_on = {
            pump: file.station.instruments[pump].watchdog or 1.1 * mixer.exchange / mixer.flow
            for mixer in file.mixers.values()
            for pump in mixer.pumps
        }
        self.nodes = tuple(name for name, node in file.twin.nodes.items() if not node.ground)
        self._high = {name for name, text in bench.apply.items() if _near_the_top(file.controls[name], text)}

    def inwards(self, control: Control) -> float:
        """Sign of a drift that leads away from the limit that the control stands at."""
        return -1.0 if any(self.file.controls[name] is control for name in self._high) else 1.0

    def limits(self) -> dict[str, dict[str, tuple[float, float]]]:
        """Quantity -> node or edge -> what it may be, by the names of ``SideDoor.extremes``; SI.

        A node that nobody drives has to stay among those that are driven: the networks of the campaign are passive.
        """
        found: dict[str, dict[str, tuple[float, float]]] = {}
        for quantity, rest in REST.items():
            word = quantity.name.lower()
            driven = [one for one in self.file.controls.values() if one.quantity is quantity]
            spans = {one.node: (min(one.limits[0], rest), max(one.limits[1], rest)) for one in driven}
            # What nobody drives is as the bench file says, and no matter of the program.
            low, high = min((s[0] for s in spans.values()), default=-inf), max((s[1] for s in spans.values()), default=inf)
            found[word] = {node: spans.get(node, (low, high)) for node in self.file.twin.nodes}
            across: dict[str, tuple[float, float]] = {}
            for edge in self.edges:
                declared = getattr(self.file.edge_limits.get(edge), word, None)
                most = high - low if declared is None else declared
                across[edge] = (-most, most)
            found[f"{word}_difference"] = across
        return found


def _near_the_top(control: Control, text: str) -> bool:
    from hil.experiment.units import parse

    return bool(parse(text, control.quantity.value) > np.mean(control.limits))


BENCHES = (
    FaultBench("divider", {"V1": "5 V", "V3": "0 V"}, {"V2": "4 V"}, {"V2": 1.5e-3}),
    # The 6517B on its 20 V range, plus settling.
    FaultBench("divider_single_channel", {"V1": "5 V", "V3": "0 V"}, {"V2": "4 V"}, {"V2": 12e-3}),
    FaultBench("divider_scanner", {"V1": "5 V", "V3": "0 V"}, {"V2": "4 V"}, {"V2": 1.5e-3, "V1_measured": 1.5e-3}),
    # The B2912A's current on its 1 uA range.
    FaultBench("divider_two_channel", {"V1": "5 V", "V3": "0 V"}, {"V2": "4 V"}, {"V2": 1.5e-3, "I1": 2e-9}),
    FaultBench("ladder_matrix", {"V1": "5 V"}, {"V2": "4 V", "V3": "2 V"}, {"V2": 12e-3, "V3": 12e-3}),
    # An Alicat errs by 300 Pa of 1.2 bar, and its unrest of 6 Pa (1 mV) shows.
    FaultBench(
        "divider_pressure_units",
        {"V1": "5 V", "V3": "0 V"},
        {"V2": "4 V"},
        {"V2": 2.5e-3},
        UNSTEADY,
        {"P1": 400.0, "P2": 130.0, "P3": 400.0},
    ),
    # Two pumps of 1 % each, and e^-5 of what was in the reservoir before. Electrodes that follow the concentration would stand
    # between terminals and nodes.
    FaultBench(
        "divider_concentration",
        {"V1": "5 V", "V3": "0 V"},
        {"V2": "4 V"},
        {"V2": 12e-3},
        CONCENTRATIONS,
        changes={"virtual": IDEAL_ELECTRODES},
    ),
    FaultBench(
        "divider_harvard_pumps",
        {"V1": "5 V", "V3": "0 V"},
        {"V2": "4 V"},
        {"V2": 12e-3},
        CONCENTRATIONS,
    ),
    FaultBench(
        "divider_flow_controllers",
        {"V1": "5 V", "V3": "0 V"},
        {"V2": "4 V"},
        {"V2": 12e-3},
        CONCENTRATIONS,
    ),
)


def models() -> tuple[str, ...]:
    """Every driver class that is in the campaign."""
    return tuple(sorted({model for bench in BENCHES for model in bench.places().models.values()}))
