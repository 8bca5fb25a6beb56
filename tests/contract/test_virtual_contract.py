"""The contract on real drivers over real VISA links, TCP and serial, to emulated instruments."""

from collections.abc import Iterator, Mapping, Sequence

import pytest

from hil.core.safety import SafetyEnvelope
from hil.core.types import Channel, Kind, Layout, Quantity, SafeAction, SafeState, SettlePolicy
from instruments.backend import InstrumentBackend
from instruments.wiring import ControlWire, InstrumentSpec, OutputWire
from simulated_backend.description import describe
from simulated_backend.virtual_bench.plan import BenchPlan, InstrumentPlan, Wire
from simulated_backend.virtual_bench.process import VirtualBench
from tests.backend_contract import BackendContract, World
from tests.contract.worlds import CONTROLS, I1, STIMULI, V2, divider, truth

DRIVERS = {
    "smu": "instruments.keithley_2600.Keithley2602B",
    "meter": "instruments.keithley_6517b.Keithley6517B",
    "daq": "instruments.keithley_daq6510.KeithleyDAQ6510",
    "pace": "instruments.druck_pace.DruckPACE6000",
}
P2 = Channel("P2", Quantity.PRESSURE, Kind.DRIVE, 0.9e5, 1.1e5, max_slew=2e4, node="2", safe=SafeState(SafeAction.VENT))


def sense(name: str, node: str) -> Channel:
    """A voltage output."""
    return Channel(name, Quantity.VOLTAGE, Kind.SENSE, node=node)


def bench(names: tuple[str, ...], wires: tuple[Wire, ...]) -> VirtualBench:
    """The named instruments around the divider, in stepped time, with the errors of their data sheets."""
    instruments = tuple(InstrumentPlan(name, DRIVERS[name].rsplit(".", 1)[-1]) for name in names)
    return VirtualBench.start(BenchPlan(instruments, wires, describe(divider(1e-7)), seed=3))


def specs(running: VirtualBench) -> list[InstrumentSpec]:
    """What a bench file would say of them."""
    return [InstrumentSpec(name, DRIVERS[name], address) for name, address in running.addresses.items()]


SMU_WIRES = (Wire("smu", "smua", "1"), Wire("smu", "smub", "3"))
SMU_CONTROLS = (
    ControlWire(CONTROLS["V1"], "smu.smua.volt", 1e-3, {"current_range": 1e-5}),
    ControlWire(CONTROLS["V3"], "smu.smub.volt", 1e-3),
)


def smu_levels(running: VirtualBench) -> Mapping[str, float | None]:
    """What the two SMU terminals truly do; an output that is off holds 0 V (normal off mode)."""
    ports = running.side_door.sources()["smu"]
    return {
        name: ports[port]["voltage"] if ports[port]["source"] == "VoltageSource" and ports[port]["level"] is not None else None
        for name, port in (("V1", "smua"), ("V3", "smub"))
    }


@pytest.fixture(scope="module")
def lone_smu() -> Iterator[VirtualBench]:
    with bench(("smu",), SMU_WIRES) as running:
        yield running


@pytest.fixture(scope="module")
def four_instruments() -> Iterator[VirtualBench]:
    wires = (*SMU_WIRES, Wire("meter", "", "2"), Wire("daq", "ch101", "2"), Wire("daq", "ch103", "1"), Wire("pace", "b", "2"))
    with bench(("smu", "meter", "daq", "pace"), wires) as running:
        yield running


class TestSourceMeasureUnitAlone(BackendContract):
    """One 2602B drives both ends and measures its own current."""

    @pytest.fixture
    def world(self, lone_smu: VirtualBench) -> Iterator[World]:
        running = lone_smu
        backend = InstrumentBackend(
            "virtual",
            specs(running),
            SMU_CONTROLS,
            [OutputWire(I1, "smu.smua.curr", {"nplc": 1})],
            SafetyEnvelope.of(CONTROLS),
            running.clock,
        )
        yield World(
            backend,
            STIMULI,
            SettlePolicy(tolerance=2e-9, window=0.02, timeout=20.0),
            SettlePolicy(tolerance=1e-12, window=0.02, timeout=0.05),
            lambda: smu_levels(running),
            truth(["I1"]),
            lambda: all(value is None or abs(value) < 1e-3 for value in smu_levels(running).values()),
            {"I1": 1e-8},  # 10 uA range: 0.025 % + 1.5 nA, and 1 mV of source error over 1.33 MOhm
            dict.fromkeys(CONTROLS.names, 3e-3),
            trained="V3",
        )
        backend.close()
        assert running.side_door.troubles() == []


class TestFourInstruments(BackendContract):
    """A 2602B drives, a 6517B on a serial line and a scanning DAQ6510 read, a PACE holds a pressure."""

    @pytest.fixture
    def world(self, four_instruments: VirtualBench) -> Iterator[World]:
        running = four_instruments
        layout = Layout((*CONTROLS, P2))
        backend = InstrumentBackend(
            "virtual",
            specs(running),
            [*SMU_CONTROLS, ControlWire(P2, "pace.b.pressure", setup={"in_limits": 100.0, "reference": "absolute"})],
            [
                OutputWire(V2, "meter.volt", {"range": 20.0, "nplc": 1}),
                OutputWire(sense("V2 scanned", "2"), "daq.ch101.volt", {"range": 10.0, "nplc": 1}),
                OutputWire(sense("V1 scanned", "1"), "daq.ch103.volt", {"range": 10.0, "nplc": 1}),
            ],
            SafetyEnvelope.of(layout),
            running.clock,
        )

        def controls() -> Mapping[str, float | None]:
            outlet = running.side_door.outlets()["pace"]["b"]
            return {**smu_levels(running), "P2": outlet["pressure"] if outlet["state"] == "control" else None}

        def at_rest() -> bool:
            true = controls()
            return true["P2"] is None and all(value is None or abs(value) < 1e-3 for value in true.values())

        def scanned(values: Sequence[float]) -> Mapping[str, float]:
            v2 = truth(["V2"])(values)["V2"]
            return {"V2": v2, "V2 scanned": v2, "V1 scanned": values[0]}

        yield World(
            backend,
            [[*values, pressure] for values, pressure in zip(STIMULI, (1.0e5, 1.02e5, 0.97e5), strict=True)],
            SettlePolicy(tolerance=1e-3, window=0.02, timeout=60.0),
            SettlePolicy(tolerance=1e-9, window=0.02, timeout=0.05),
            controls,
            scanned,
            at_rest,
            dict.fromkeys(("V2", "V2 scanned", "V1 scanned"), 1e-2),
            {**dict.fromkeys(CONTROLS.names, 3e-3), "P2": 200.0},
            trained="V3",
        )
        backend.close()
        assert running.side_door.troubles() == []
