"""Drivers that play no role of ours: read by their parameters, and not at all through an output that is off."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hil.core.errors import ConfigError, InstrumentError, InterlockError
from hil.core.types import Channel, Kind, Quantity, Stimulus
from instruments.outputs import Interlocks
from instruments.plain_meter import PlainMeter, number_of, switch_of
from instruments.roles import Acquired
from instruments.terminals import Output, Sense, unblinded
from instruments.wiring import ControlWire, InterlockWire, OutputWire
from tests.unit.instruments import fake_instruments
from tests.unit.instruments.fake_instruments import POLICY, Bench, make, volt

bench = fake_instruments.bench


class Parameter:
    """What a stock driver calls a parameter."""

    def __init__(self, name: str, *answers: Any, unit: str = "") -> None:
        self.full_name, self.unit, self._answers = f"stock_{name}", unit, list(answers)

    def get(self) -> Any:
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def port(submodules: dict[str, Any] | None = None, **parameters: Parameter) -> Any:
    return SimpleNamespace(name="stock", parameters=parameters, submodules=submodules or {})


def stock(*switch: Any, **more: Parameter) -> Any:
    return port({"smua": port(volt=Parameter("volt", 1.5, unit="V"), output=Parameter("output", *switch))}, **more)


@pytest.mark.parametrize("on", [True, 1, "on", "ON", "1"], ids=repr)
def test_what_is_on_is_read(on: object) -> None:
    values, overload = PlainMeter(stock(on)).acquisition([("smua", "volt")])(3)
    assert values.tolist() == [[1.5]] * 3
    assert not overload.any()


@pytest.mark.parametrize("off", [False, 0, "off", "OFF", "0"], ids=repr)
def test_what_is_off_is_not_read(off: object) -> None:
    read = PlainMeter(stock(off)).acquisition([("smua", "volt")])
    with pytest.raises(InstrumentError, match=r"'stock': stock_output is off, and a source that is off holds its node at 0 V"):
        read(1)


def test_an_output_that_goes_off_while_it_is_read_is_noticed() -> None:
    read = PlainMeter(stock(True, False)).acquisition([("smua", "volt")])
    with pytest.raises(InstrumentError, match="stock_output is off"):
        read(1)


def test_the_switch_of_a_terminal_is_the_nearest_one_above_it() -> None:
    own, above = Parameter("output", True), Parameter("output_enabled", True)
    instrument = port({"sense": port(volt=Parameter("volt", 1.0)), "smua": port(output=own)}, output_enabled=above)
    assert switch_of(instrument, "smua") is own
    assert switch_of(instrument, "sense") is above
    assert switch_of(instrument, "") is above
    assert switch_of(port(volt=Parameter("volt", 1.0)), "") is None
    with pytest.raises(ConfigError, match="no port 'smub'"):
        switch_of(instrument, "smub")


def test_an_amplitude_that_is_called_output_is_no_switch() -> None:
    values, _ = PlainMeter(stock(0.0)).acquisition([("smua", "volt")])(1)
    assert values.tolist() == [[1.5]]


def test_whatever_a_stock_driver_raises_is_the_instruments_fault() -> None:
    broken = port(volt=Parameter("volt", RuntimeError("Cannot perform read with output off")))
    with pytest.raises(InstrumentError, match="stock_volt could not be read: Cannot perform read"):
        PlainMeter(broken).acquisition([("", "volt")])(1)
    with pytest.raises(InstrumentError, match="'nothing' was read where a number was expected"):
        PlainMeter(port(volt=Parameter("volt", "nothing"))).acquisition([("", "volt")])(1)


def test_an_interlock_may_be_a_word() -> None:
    wire = InterlockWire("lid", "stock.output", 1.0)
    Interlocks([wire], {"stock": port(output=Parameter("output", "on"))}).check()
    with pytest.raises(InterlockError, match=r"'lid': stock\.output reads 0, but 1 is needed"):
        Interlocks([wire], {"stock": port(output=Parameter("output", "off"))}).check()
    assert (number_of("true"), number_of(False), number_of("2.5")) == (1.0, 0.0, 2.5)


def test_a_voltage_at_a_terminal_that_was_left_floating_is_no_reading(bench: Bench) -> None:
    """The meter of a source-measure unit sees its own terminal, and a disconnected terminal is not the node."""
    bench.instruments["smu"].reads_when_off = False
    at_a, at_b = (
        OutputWire(Channel(name, Quantity.VOLTAGE, Kind.SENSE, node="x"), parameter)
        for name, parameter in (("A", "smu.a.volt"), ("B", "smu.b.volt"))
    )
    wires = [ControlWire(volt("V1"), "smu.a.volt", 1e-5), ControlWire(volt("V2"), "smu.b.volt", 1e-5)]
    with make(bench, wires, outputs=[at_a, at_b]) as backend:
        backend.apply(Stimulus.of([1.0, 2.0], [True, False]))
        backend.settle(POLICY)
        reading = backend.read(3)
        assert reading.values[0] == 1.0
        assert np.isnan(reading.values[1])
        assert reading.overload.tolist() == [False, True]
        backend.apply(Stimulus.of([1.0, 2.0]))
        backend.settle(POLICY)
        assert backend.read().values.tolist() == [1.0, 2.0]


def test_what_no_source_of_the_bench_feeds_is_left_as_it_is() -> None:
    drive: Any = SimpleNamespace(output=Output.FLOATING)
    fed = Sense(volt("A"), "", None, "a", "volt", None, {}, source=drive)
    free = Sense(volt("B"), "", None, "b", "volt", None, {})
    acquired = Acquired(np.ones((2, 2)), np.zeros((2, 2), dtype=np.bool_))
    values, overload = unblinded(acquired, [fed, free])
    assert np.isnan(values[:, 0]).all()
    assert overload.tolist() == [[True, False]] * 2
    assert unblinded(acquired, [free, free]) is acquired
