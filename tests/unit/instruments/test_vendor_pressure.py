"""The adapter role: refusals without the maker's software, a bench through an adapter, the Fluigent SDK where it is there."""

import importlib
import sys
from importlib.metadata import EntryPoint
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hil.core.clock import SteppedClock
from hil.core.errors import ConfigError, InstrumentError
from hil.core.safety import EdgeLimit, SafetyEnvelope
from hil.core.types import Channel, Kind, Layout, Quantity, SafeAction, SafeState, Stimulus
from instruments import vendor_pressure
from instruments.backend import InstrumentBackend
from instruments.fluigent_pressure import FluigentPressure
from instruments.vendor_pressure import ElveflowPressure, VendorResource
from instruments.wiring import ControlWire, InstrumentSpec


class Outlet:
    """An adapter made of Python: an outlet that follows at once, and remembers everything it was told and when."""

    clock = SteppedClock()
    made: dict[str, "Outlet"]

    def __init__(self, address: str) -> None:
        self.level, self.closed, self.fails = 0.0, False, False
        self.history: list[tuple[float, float]] = []
        type(self).made[address] = self

    def identify(self) -> str:
        return "Elveflow,OB1,0001,3.10"

    def full_scale(self) -> float:
        return 2e5

    def set_pressure(self, pascal: float) -> None:
        if self.fails:
            raise RuntimeError("error 8003")
        self.level = pascal
        self.history.append((self.clock.now(), pascal))

    def pressure(self) -> float:
        return self.level

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def adapter(monkeypatch: pytest.MonkeyPatch) -> type[Outlet]:
    Outlet.made = {}
    Outlet.clock = SteppedClock()
    point = EntryPoint("elveflow", f"{__name__}:Outlet", vendor_pressure.GROUP)
    monkeypatch.setattr(EntryPoint, "load", lambda _self: Outlet)
    monkeypatch.setattr(vendor_pressure, "entry_points", lambda group, name: (point,) if name == "elveflow" else ())
    return Outlet


def two_outlets(clock: SteppedClock) -> InstrumentBackend:
    specs = [InstrumentSpec(name, "instruments.vendor_pressure.ElveflowPressure", name.upper()) for name in ("left", "right")]
    channels = [
        Channel(name, Quantity.PRESSURE, Kind.DRIVE, 0.0, 1e5, max_slew=1e4, emergency_slew=2e4, safe=SafeState(SafeAction.VENT))
        for name in ("p_left", "p_right")
    ]
    wires = [ControlWire(channel, f"{spec.name}.pressure") for channel, spec in zip(channels, specs, strict=True)]
    envelope = SafetyEnvelope.of(Layout(tuple(channels)), (EdgeLimit("channel", "p_left", "p_right", 3e4),))
    return InstrumentBackend("led", specs, wires, [], envelope, clock)


def test_without_the_maker_s_software_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "Fluigent", None)
    monkeypatch.setitem(sys.modules, "Fluigent.SDK", None)
    with pytest.raises(ConfigError, match=r"'p' at FLUIGENT::1::0: the Fluigent SDK is not installed; take its Python package"):
        FluigentPressure("p", "FLUIGENT::1::0")
    with pytest.raises(ConfigError, match=r"write one of a few lines .* under the entry point 'memristor_hil\.vendor_channels'"):
        ElveflowPressure("p", "OB1")


def test_a_bench_leads_what_holds_no_slew_up_and_down_in_step(adapter: type[Outlet]) -> None:
    backend = two_outlets(adapter.clock)
    with backend:
        backend.apply(Stimulus.of([8e4, 6e4]))
    left, right = adapter.made["LEFT"], adapter.made["RIGHT"]
    assert left.closed
    assert right.closed
    assert (left.level, right.level) == (0.0, 0.0)
    for outlet, slew in ((left, 2e4), (right, 2e4)):
        times, levels = np.array(outlet.history).T
        assert levels.max() >= 6e4
        jumps = np.abs(np.diff(levels)) / np.maximum(np.diff(times), 0.02)
        assert jumps[:-1].max() <= slew * 1.001, "only the last one, to the atmosphere, may be faster"
    times = np.union1d(*(np.array(outlet.history)[:, 0] for outlet in (left, right)))
    at = [
        np.array(outlet.history)[[np.searchsorted(np.array(outlet.history)[:, 0], times, "right") - 1], 1]
        for outlet in (left, right)
    ]
    assert np.abs(at[0] - at[1]).max() <= 3e4


def test_failures_of_the_software_are_errors_of_the_instrument(adapter: type[Outlet]) -> None:
    unit: Any = ElveflowPressure("ob1", "OB1")
    try:
        unit.prepare_unit()
        unit.enable(1e4)
        assert unit.pressure() == 1e4
        with pytest.raises(InstrumentError, match="cannot shut its volume"):
            unit.disable(SafeAction.STOP)
        adapter.made["OB1"].fails = True
        with pytest.raises(InstrumentError, match="error 8003"):
            unit.pressure(2e4)
        adapter.made["OB1"].fails = False
    finally:
        unit.close()
    assert adapter.made["OB1"].history[-1][1] == 0.0, "it is not left under pressure"


def test_nothing_is_sent_on_closing_an_outlet_at_rest(adapter: type[Outlet]) -> None:
    channel = adapter("X")
    VendorResource("X", channel).close()
    assert channel.closed
    assert channel.history == []


def fake_sdk() -> ModuleType:
    """The few functions of the maker's package that are used, with its conventions (millibars, error numbers)."""
    sdk: Any = ModuleType("Fluigent.SDK")
    levels: dict[int, float] = {}
    opened: list[int] = []

    def channels() -> list[Any]:
        # Whatever was added last, a controller of the older kind is counted first (as MFCS before Flow EZ).
        return [
            SimpleNamespace(
                ControllerSN=serial, position=1, index=index, indexID=65_536 + serial, InstrType="MFCS_EZ", firmware="1.00"
            )
            for index, serial in enumerate(sorted(opened))
        ]

    def meant(index: int) -> int:
        (found,) = (one.indexID for one in channels() if index in (one.index, one.indexID))
        return int(found)

    def fgt_init(serials: list[int]) -> int:
        assert not set(serials) & set(opened), "they are there already"
        opened.extend(serials)
        return 0

    def fgt_set_pressure(index: int, millibar: float) -> int:
        levels[meant(index)] = millibar
        return 0

    sdk.fgt_init = fgt_init
    sdk.fgt_close = opened.clear
    sdk.fgt_get_pressureChannelsInfo = channels
    sdk.fgt_set_pressureUnit = lambda index, unit: 0 if unit == "mbar" and meant(index) else 1
    sdk.fgt_get_pressureRange = lambda index: (0.0, 1034.0)
    sdk.fgt_get_pressure = lambda index: levels.get(meant(index), 0.0)
    sdk.fgt_set_pressure = fgt_set_pressure
    sdk.levels, sdk.opened = levels, opened
    module: ModuleType = sdk
    return module


@pytest.fixture
def sdk(monkeypatch: pytest.MonkeyPatch) -> Any:
    made: Any = fake_sdk()
    monkeypatch.setitem(sys.modules, "Fluigent", ModuleType("Fluigent"))
    monkeypatch.setitem(sys.modules, "Fluigent.SDK", made)
    return made


def test_fluigent_channels_are_the_same_after_another_controller_has_joined(sdk: Any) -> None:
    first: Any = FluigentPressure("fluigent_first", "FLUIGENT::1234::1")
    second: Any = FluigentPressure("fluigent_second", "FLUIGENT::12::1")
    third: Any = FluigentPressure("fluigent_third", "FLUIGENT::1234::1")
    try:
        first.enable(2.5e4)
        second.enable(1e4)
        assert sdk.levels == {65_536 + 1234: 250.0, 65_536 + 12: 100.0}
        assert first.pressure() == 2.5e4
        first.close()
        assert sdk.opened == [1234, 12], "two are still in use"
    finally:
        second.close()
        third.close()
    assert sdk.opened == []


def test_fluigent_counts_in_millibars_and_ends_its_session(sdk: Any) -> None:
    for wrong, sentence in (("FLUIGENT::1234::7", "channels: FLUIGENT::1234::1"), ("COM3", "is no Fluigent channel")):
        with pytest.raises(ConfigError, match=sentence):
            FluigentPressure("fluigent_wrong", wrong)
    unit: Any = FluigentPressure("fluigent", "FLUIGENT::1234::1")
    try:
        assert unit.get_idn() == {"vendor": "Fluigent", "model": "MFCS_EZ", "serial": "1234", "firmware": "1.00"}
        assert unit.prepare_unit() == (103_400.0, True, [])
        unit.enable(2.5e4)
        assert sdk.levels == {65_536 + 1234: 250.0}
        assert unit.pressure() == 2.5e4
        unit.disable(SafeAction.VENT)
        assert unit.vented()
    finally:
        unit.close()
    assert (sdk.levels, sdk.opened) == ({65_536 + 1234: 0.0}, [])


def test_the_maker_s_own_simulated_instrument() -> None:
    """Runs where the Fluigent SDK is installed; it brings an instrument made of software."""
    try:
        sdk: Any = importlib.import_module("Fluigent.SDK")
    except ImportError as error:
        pytest.skip(f"the Fluigent SDK is not installed ({error})")
    sdk.fgt_create_simulated_instr(sdk.fgt_INSTRUMENT_TYPE.MFCS_EZ, 4321, 0, [4, 4])
    unit: Any = FluigentPressure("fluigent_simulated", "FLUIGENT::4321::1")
    try:
        assert unit.prepare_unit()[0] > 1e4
        unit.enable(1e4)
        seen = [unit.pressure() for _ in range(2000)]
        assert min(abs(value - 1e4) for value in seen) < 500.0
        unit.disable(SafeAction.VENT)
    finally:
        unit.close()
        sdk.fgt_remove_simulated_instr(sdk.fgt_INSTRUMENT_TYPE.MFCS_EZ, 4321)
