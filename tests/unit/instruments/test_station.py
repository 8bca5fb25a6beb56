import sys
from typing import Any

import pytest

import instruments
from hil.core.errors import ConfigError, InstrumentError
from hil.core.types import Channel, Kind, Quantity
from hil.experiment.fields import FieldError
from instruments.replica_wiring import check_replicas
from instruments.station import build_station, check_station, driver_class, with_watchdogs
from instruments.wiring import ControlWire, InstrumentSpec, OutputWire, ParameterPath

SMU = "instruments.keithley_2600.Keithley2602B"
ADDRESS = "TCPIP0::192.0.2.11::5025::SOCKET"


def spec(**changes: Any) -> InstrumentSpec:
    return InstrumentSpec(**{"name": "smu", "type": SMU, "address": ADDRESS, **changes})


def control(name: str, parameter: str) -> ControlWire:
    return ControlWire(Channel(name, Quantity.VOLTAGE, Kind.DRIVE, 0.0, 5.0, node="1"), parameter, 1e-5)


def test_the_marker_is_there_without_heavy_imports() -> None:
    assert instruments.MEMRISTOR_HIL is True


def test_our_drivers_and_the_named_stock_drivers_are_allowed() -> None:
    assert driver_class(spec()).__name__ == "Keithley2602B"
    assert driver_class(spec(type="qcodes.instrument_drivers.Keithley.Keithley2450")).__name__ == "Keithley2450"


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "subprocess.Popen",
        "this.s",
        "instruments.visa.Session",
        "instruments.base.BenchInstrument",
        "instruments.keithley_2600.Keithley2600B",
        "instruments.keithley_2600.StockKeithley2600",
        "qcodes.instrument_drivers.mock_instruments.DummyInstrument",
        "Keithley2602B",
        "",
    ],
)
def test_anything_else_is_refused_and_the_list_is_told(name: str) -> None:
    with pytest.raises(ConfigError, match=r"'smu'.*not on the list.*Keithley2602B"):
        driver_class(spec(type=name))


@pytest.mark.parametrize("name", ["Keithley2602B", "instruments.keithley_2600.Keithley2062B", "keithley_2600.Keithley2602B"])
def test_a_driver_nearly_named_is_suggested_with_its_module(name: str) -> None:
    with pytest.raises(FieldError, match=r"did you mean 'instruments.keithley_2600.Keithley2602B'\?") as refused:
        driver_class(spec(type=name))
    assert refused.value.field == "station.instruments.smu.type"


def test_a_refused_class_was_not_imported() -> None:
    sys.modules.pop("antigravity", None)
    with pytest.raises(ConfigError):
        driver_class(spec(type="antigravity.fly"))
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"initial_value": 1}, "write to the hardware"),
        ({"parameters": 1}, "limits belong to `controls`"),
        ({"tiemout": 1}, r"unknown option 'tiemout'; options: .*timeout"),
        ({"session": 1}, "unknown option 'session'"),
        ({"name": "x"}, "unknown option 'name'"),
        ({"baud_rate": "fast"}, "baud_rate is a whole number above 0, not 'fast'"),
        ({"baud_rate": 0}, "baud_rate is a whole number above 0, not 0"),
        ({"timeout": "5 s"}, "timeout is a number of seconds above 0, not '5 s'"),
    ],
)
def test_options_are_checked(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        check_station([spec(options=options)], [], [])


@pytest.mark.parametrize("library", ["/tmp/visa.so", "visa32.dll@ivi", "@mine", True])
def test_a_file_names_no_library_to_load(library: object) -> None:
    with pytest.raises(ConfigError, match="must not name code to load"):
        check_station([spec(options={"visalib": library})], [], [])
    check_station([spec(options={"visalib": "@py"})], [], [])


def test_known_options_pass() -> None:
    check_station([spec(options={"timeout": 2.0, "visalib": "@py"})], [], [])


def test_one_address_is_for_one_instrument() -> None:
    with pytest.raises(ConfigError, match=r"'smu' and 'other' have the same address"):
        check_station([spec(), spec(name="other", address=ADDRESS.lower())], [], [])
    with pytest.raises(ConfigError, match=r"'smu' stands twice"):
        check_station([spec(), spec(address="ASRL1::INSTR")], [], [])


@pytest.mark.parametrize("spelling", ["TCPIP::192.0.2.11::5025::SOCKET", "tcpip0::192.0.2.11::5025::socket"])
def test_one_address_is_one_however_it_is_spelled(spelling: str) -> None:
    with pytest.raises(ConfigError, match="'smu' and 'other' have the same address"):
        check_station([spec(), spec(name="other", address=spelling)], [], [])


@pytest.mark.parametrize("parameter", ["smu.smub.volt", "smu.smub.curr"])
def test_a_node_is_not_read_by_a_source_that_is_off(parameter: str) -> None:
    reader = OutputWire(Channel("V2", Quantity.VOLTAGE, Kind.SENSE, node="2"), parameter)
    with pytest.raises(
        ConfigError, match=r"'V2': no control drives smu.smub.* use a voltmeter \(sourcing 0 A .* 2 pA is half a volt"
    ):
        check_station([spec()], [control("V1", "smu.smua.volt")], [reader])
    check_station([spec()], [control("V1", "smu.smua.volt"), control("V2", "smu.smub.volt")], [reader])


def test_a_replica_is_not_read_by_a_source_that_is_off() -> None:
    wires = [control("V", "")], [OutputWire(Channel("I", Quantity.CURRENT, Kind.SENSE, node="1"), "")]
    classes = {"smu": driver_class(spec())}
    check_replicas(*wires, {"A": {"V": "smu.smua.volt", "I": "smu.smua.curr"}}, (), classes)
    with pytest.raises(ConfigError, match=r"'I': no control drives smu.smub"):
        check_replicas(*wires, {"A": {"V": "smu.smua.volt", "I": "smu.smub.curr"}}, (), classes)


def test_one_output_is_for_one_control() -> None:
    with pytest.raises(ConfigError, match=r"'V1' and 'V2' both drive smu\.smua\.volt"):
        check_station([spec()], [control("V1", "smu.smua.volt"), control("V2", "smu.smua.volt")], [])


def test_a_control_and_an_output_may_share_a_parameter() -> None:
    reading = OutputWire(Channel("U1", Quantity.VOLTAGE, Kind.SENSE, node="1"), "smu.smua.volt")
    check_station([spec()], [control("V1", "smu.smua.volt")], [reading])


@pytest.mark.parametrize("path", ["meter.volt", "smu", "smu..volt", "."])
def test_paths_that_lead_nowhere(path: str) -> None:
    with pytest.raises(ConfigError, match=r"'V1'"):
        check_station([spec()], [control("V1", path)], [])


def test_paths_are_read_from_both_ends() -> None:
    assert ParameterPath.parse("smu.smua.volt") == ParameterPath("smu", "smua", "volt")
    assert ParameterPath.parse("meter.volt") == ParameterPath("meter", "", "volt")
    assert str(ParameterPath.parse("meter.ch101.volt")) == "meter.ch101.volt"


def test_a_station_that_cannot_be_opened_leaves_nothing_open() -> None:
    specs = [spec(address="TCPIP0::127.0.0.1::9::SOCKET", options={"visalib": "@py", "timeout": 0.2})]
    for _ in range(2):
        # The second time would fail differently if the first had left an instrument of that name behind.
        with pytest.raises(InstrumentError, match=r"'smu'"):
            build_station(specs, check_station(specs, [], []))


def test_an_instrument_that_has_a_watchdog_gets_the_usual_one_unless_the_file_says_another() -> None:
    pump = {"type": "instruments.new_era_ne1000.NewEraNE1000", "address": "ASRL1::INSTR"}
    specs = [spec(), spec(name="one", **pump), spec(name="other", watchdog=7.0, **pump)]
    classes = {one.name: driver_class(one) for one in specs}
    assert [one.watchdog for one in with_watchdogs(specs, classes)] == [None, 30.0, 7.0]
