"""A stock QCoDeS driver as an output of a bench: read while its terminal is on, refused while it is off."""

import pytest

from hil.core.errors import InstrumentError
from hil.core.safety import SafetyEnvelope
from hil.core.types import Channel, Kind, Layout, Quantity, SettlePolicy, Stimulus
from instruments.backend import InstrumentBackend
from instruments.wiring import ControlWire, InstrumentSpec, OutputWire
from simulated_backend.description import describe
from simulated_backend.devices.registry import law
from simulated_backend.network import Edge, Network, Node
from simulated_backend.virtual_bench.plan import BenchPlan, InstrumentPlan, Wire
from simulated_backend.virtual_bench.process import VirtualBench

POLICY = SettlePolicy(tolerance=1e-2, window=0.02, timeout=5.0)


def test_a_node_is_not_read_through_a_stock_source_that_is_off() -> None:
    """2 V across two equal resistors: 1 V at the node between, or 0 V while the unit there is off and holds it."""
    given = {"conductance": 1e-6}
    nodes = [Node("1"), Node("2"), Node("low", ground=True)]
    edges = [Edge("a", "1", "2", law("ohmic"), parameters=given), Edge("b", "2", "low", law("ohmic"), parameters=given)]
    plan = BenchPlan(
        (InstrumentPlan("smu", "Keithley2602B"), InstrumentPlan("stock", "Keithley2636B")),
        (Wire("smu", "smua", "1"), Wire("stock", "smua", "2")),
        describe(Network.build(nodes, edges)),
        seed=5,
    )
    control = Channel("V1", Quantity.VOLTAGE, Kind.DRIVE, 0.0, 5.0, max_slew=10.0, node="1")
    with VirtualBench.start(plan) as virtual:
        specs = [
            InstrumentSpec("smu", "instruments.keithley_2600.Keithley2602B", virtual.addresses["smu"]),
            InstrumentSpec("stock", "qcodes.instrument_drivers.Keithley.Keithley2636B", virtual.addresses["stock"]),
        ]
        output = OutputWire(Channel("V2", Quantity.VOLTAGE, Kind.SENSE, node="2"), "stock.smua.volt")
        wires = [ControlWire(control, "smu.smua.volt", 1e-4)]
        envelope = SafetyEnvelope.of(Layout((control,)))
        with InstrumentBackend("stock", specs, wires, [output], envelope, virtual.clock) as backend:
            backend.apply(Stimulus.of([2.0]))
            with pytest.raises(InstrumentError, match=r"'stock': stock_smua_output is off"):
                backend.settle(POLICY)
            assert virtual.side_door.voltages()["2"] == pytest.approx(0.0, abs=1e-2)
            # Somebody makes a voltmeter of it: a source of no current.
            unit = backend._station.components["stock"].smua  # type: ignore[union-attr] # the bench is open
            unit.mode("current")
            unit.limitv(5.0)
            unit.curr(0.0)
            unit.output(True)
            assert unit.output() is True
            backend.apply(Stimulus.of([2.0]))
            backend.settle(POLICY)
            assert backend.read().values[0] == pytest.approx(1.0, abs=0.05)
