"""Command languages of the SCPI emulators, inside one process: what is sent, what comes back, what it does to the plant."""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf

import numpy as np
import pytest

from hil.core.errors import ConfigError
from simulated_backend.description import describe
from simulated_backend.devices import registry
from simulated_backend.network import Edge, Network, Node
from simulated_backend.virtual_bench.emulator import Emulator, create, models, transport_of
from simulated_backend.virtual_bench.plan import BenchPlan, InstrumentPlan, Wire
from simulated_backend.virtual_bench.plant import Plant
from simulated_backend.virtual_bench.ports import VoltageSource

ATMOSPHERE = 101_325.0
Ask = Callable[[str], str | None]


@dataclass
class Rig:
    """A plant and the one instrument under test on it."""

    plant: Plant
    emulator: Emulator


def bench_of(model: str, port_of_node: dict[str, str], *, ideal: bool = True, seed: int = 0, **options: object) -> Rig:
    """An instrument on a 1 Mohm divider whose upper node "1" a helper can drive."""
    law = registry.law("ohmic")
    edges = [Edge("a", "1", "2", law, {"conductance": 1e-6}), Edge("b", "2", "3", law, {"conductance": 1e-6})]
    network = Network.build([Node("1"), Node("2"), Node("3", ground=True)], edges)
    wires = (*(Wire("it", port, node) for node, port in port_of_node.items()), Wire("helper", "hi", "1"))
    it = InstrumentPlan("it", model, options)
    plant = Plant(BenchPlan((it, InstrumentPlan("helper", "none")), wires, describe(network), ideal=ideal, seed=seed))
    plant.lock.acquire()
    plant.electrical("helper", "hi")
    transport_of(it)
    return Rig(plant, create(it, plant, np.random.default_rng(seed)))


def talk(rig: Rig) -> Ask:
    def ask(text: str) -> str | None:
        reply = rig.emulator.receive(text.encode())
        return None if reply is None else reply.decode("latin-1").rstrip("\r\n")

    return ask


def floats(reply: str | None) -> list[float]:
    assert reply is not None
    return [float(part) for part in reply.split(",")]


# Druck PACE6000 ------------------------------------------------------------------------------------------------------


@pytest.fixture
def pace() -> Rig:
    return bench_of("DruckPACE6000", {"1": "a", "2": "b"})


@pytest.mark.parametrize(
    ("query", "reply"),
    [
        ("*IDN?", "*IDN GE Druck,PACE6000 User Interface,10388796,02.02.14"),
        (":SOUR:PRES?", ":SOUR:PRES:LEV:IMM:AMPL 0.0000000"),
        ("sour2?", ":SOUR2:PRES:LEV:IMM:AMPL 0.0000000"),
        (":SOUR:PRES:SLEW?", ":SOUR:PRES:SLEW 100.0000000"),
        (":SOUR1:PRES:SLEW:MODE?", ":SOUR:PRES:SLEW:MODE MAX"),
        (":SOUR:PRES:SLEW:OVER?", ":SOUR:PRES:SLEW:OVER:STAT 1"),
        (":SOUR:PRES:INL?", ":SOUR:PRES:INL 0.0100000"),
        (":SOUR:PRES:INL:TIME?", ":SOUR:PRES:INL:TIME 2"),
        (":OUTP2?", ":OUTP2:STAT 0"),
        (":UNIT:PRES?", ":UNIT:PRES MBAR"),
        (":SENS2:PRES?", ":SENS2:PRES 1013.2500000"),
        (":SENS:PRES:RANG?", ':SENS:PRES:RANG "3.00bara"'),
        (":INST:CAT2:ALL?", ':INST:CAT2:ALL "2.00barg","BAROMETER","3.00bara"'),
        (":SOUR:PRES:COMP?", ":SOUR:PRES:COMP 4000.0000000"),
        (":SOUR2:PRES:COMP2?", ":SOUR2:PRES:COMP2 20.0000000"),
        (":SOUR:PRES:LEV:IMM:AMPL:VENT?", ":SOUR:PRES:LEV:IMM:AMPL:VENT 0"),
        (":SYST:ERR?", ":SYST:ERR 0, No error"),
    ],
)
def test_pace_answers_with_its_header_and_defaults(pace: Rig, query: str, reply: str) -> None:
    assert talk(pace)(query) == reply


def test_pace_without_a_module_number_means_module_1(pace: Rig) -> None:
    ask = talk(pace)
    ask("UNIT BAR;:SOUR:PRES 1.5;:OUTP 1")
    pace.plant.clock.advance(60.0)
    assert pace.plant.node_pressures() == {"1": 1.5e5, "2": ATMOSPHERE, "3": 0.0}
    assert ask("SENS:PRES?") == ":SENS:PRES 1.5000000"
    assert ask("SENS2:PRES?") == ":SENS2:PRES 1013.2500000"


def test_pace_slews_only_in_linear_mode(pace: Rig) -> None:
    ask = talk(pace)
    ask("UNIT:PRES BAR;:SOUR:PRES:SLEW 0.05;:SOUR:PRES 1.1;:OUTP:STAT 1")
    pace.plant.clock.advance(3.0)
    assert pace.plant.node_pressures()["1"] == pytest.approx(1.1e5, abs=1.0)  # the default mode is MAX
    ask("SOUR:PRES:SLEW:MODE LIN;:SOUR:PRES 1.3")
    pace.plant.clock.advance(2.0)
    assert pace.plant.node_pressures()["1"] == pytest.approx(1.1e5 + 1e4 - 1500.0, abs=5.0)
    assert ask("SENS:PRES:INL?") == ":SENS:PRES:INL 1.1850191, 0"
    pace.plant.clock.advance(10.0)
    assert ask("SENS:PRES:INL?") == ":SENS:PRES:INL 1.3000000, 1"
    assert ask("SOUR:SLEW MAX;SLEW?") == ":SOUR:PRES:SLEW 99999999.0000000"


def test_pace_vents_and_holds(pace: Rig) -> None:
    ask = talk(pace)
    ask("SOUR 1500;:OUTP 1")
    pace.plant.clock.advance(30.0)
    ask("OUTP 0")
    pace.plant.clock.advance(30.0)
    assert pace.plant.node_pressures()["1"] == 1.5e5  # controller off is no vent
    ask("SOUR:VENT 1")
    assert ask("SOUR:VENT?") == ":SOUR:PRES:LEV:IMM:AMPL:VENT 1"
    pace.plant.clock.advance(30.0)
    assert ask("SOUR:VENT?") == ":SOUR:PRES:LEV:IMM:AMPL:VENT 2"
    assert pace.plant.node_pressures()["1"] == ATMOSPHERE


def test_pace_gauge_range_counts_from_the_atmosphere(pace: Rig) -> None:
    ask = talk(pace)
    ask('SOUR:RANG "2.00barg";:SENS:RANG "2.00barg";:SOUR 500;:OUTP 1')
    pace.plant.clock.advance(30.0)
    assert pace.plant.node_pressures()["1"] == pytest.approx(ATMOSPHERE + 5e4)
    assert ask("SENS?") == ":SENS:PRES 500.0000000"


def test_pace_cannot_go_beyond_its_supplies() -> None:
    bench = bench_of("DruckPACE6000", {"1": "a"}, supply=1.2e5, vacuum=0.9e5)
    ask = talk(bench)
    ask("SOUR 1500;:OUTP 1")
    bench.plant.clock.advance(30.0)
    assert bench.plant.node_pressures()["1"] == 1.2e5
    ask("SOUR 500")
    bench.plant.clock.advance(30.0)
    assert bench.plant.node_pressures()["1"] == 0.9e5


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ("FOO:BAR 1", '-113,"Undefined header"'),
        ("SOUR:PRES 99999", '-222,"Data out of range;Parameter 1"'),
        ("SOUR3:PRES 1", '-114,"Header suffix out of range"'),
        ("SOUR:PRES:COMP3?", '-114,"Header suffix out of range"'),
        ("SENS:PRES qwer", '-200,"Execution error;Query or command violation"'),
        ("UNIT:PRES FURLONG", '207,"Enumerated value not in union"'),
        ('SOUR:PRES:RANG "2.00BARG"', '-224,"Illegal parameter value"'),
        ("SOUR:PRES", '-109,"Missing parameter"'),
        (";".join(["SENS:PRES?"] * 13), '-223,"Too much data"'),
    ],
)
def test_pace_errors(pace: Rig, message: str, error: str) -> None:
    ask = talk(pace)
    assert ask(message) is None
    assert ask("SYST:ERR?") == f":SYST:ERR {error}"


def test_pace_is_honest_unless_ideal() -> None:
    bench = bench_of("DruckPACE6000", {"1": "a", "2": "b"}, ideal=False, seed=4)
    ask = talk(bench)
    ask("UNIT PA;:SOUR 110000;:OUTP 1")
    bench.plant.clock.advance(60.0)
    seen = []
    for _ in range(300):
        bench.plant.clock.advance(3.0)
        seen.append(bench.plant.node_pressures()["1"] - 1.1e5)
    mean = sum(seen) / len(seen)
    spread = (sum((value - mean) ** 2 for value in seen) / len(seen)) ** 0.5
    assert spread == pytest.approx(0.5 * 3e-5 * 2e5, rel=0.35)  # 0.003 % of 2 bar, two standard deviations
    assert 0.1 < abs(mean) < 40.0  # its own sensor's error, well inside the precision


def test_pace5000_has_one_module() -> None:
    bench = bench_of("DruckPACE5000", {"1": "a"})
    ask = talk(bench)
    assert ask("*IDN?") == "*IDN GE Druck,PACE5000 User Interface,10388797,02.02.14"
    assert ask("SOUR2:PRES 1") is None
    assert ask("SYST:ERR?") == ':SYST:ERR -114,"Header suffix out of range"'
    with pytest.raises(ConfigError, match=r"no port 'b'"):
        bench_of("DruckPACE5000", {"1": "a", "2": "b"}).plant.check_wires()
    with pytest.raises(ConfigError, match=r"option 'modules' of 'it' must be 1 or 2, not 3"):
        bench_of("DruckPACE6000", {"1": "a"}, modules=3)


def test_pace_option_must_fit_the_module() -> None:
    with pytest.raises(ConfigError, match=r"option 'range' of 'it' must be '2.00barg' or '3.00bara', not '7 bar'"):
        bench_of("DruckPACE6000", {"1": "a"}, range="7 bar")


# Keithley 6517B ------------------------------------------------------------------------------------------------------


def electrometer(**options: object) -> tuple[Rig, Ask]:
    bench = bench_of("Keithley6517B", {"1": "vsource", "2": ""}, **options)  # type: ignore[arg-type]
    return bench, talk(bench)


def test_6517b_begins_with_zero_check_on() -> None:
    bench, ask = electrometer()
    assert ask("SYST:ZCH?;:SENS:FUNC?;:FORM:ELEM?") == '1;"VOLT:DC";READ,STAT,RNUM,UNIT,TST,CHAN'
    assert ask("FORM:ELEM READ;:READ?") == "+9.910000E+37"
    assert bench.plant.sources()["it"][""]["input_resistance"] == pytest.approx(1e6)


def test_6517b_reads_volts_with_the_default_string() -> None:
    _, ask = electrometer()
    ask(":SOUR:VOLT 6;:OUTP ON;:SYST:ZCH OFF;:SENS:VOLT:RANG 20")
    assert ask("READ?") == "+3.000000E+00NVDC,+0000000.020000secs,+00000RDNG#,000INTCHAN"
    assert ask("FORM:ELEM READ,TST;:READ?") == "+3.000000E+00,+0000000.040000"
    assert ask("FETC?") == "+3.000000E+00,+0000000.040000"
    assert ask(":SENS:VOLT:RANG?") == "+2.000000E+01"


def test_6517b_autoranges_and_overflows() -> None:
    _, ask = electrometer()
    ask("FORM:ELEM READ,STAT;:SOUR:VOLT 6;:OUTP ON;:SYST:ZCH OFF")
    assert ask("READ?;:SENS:VOLT:RANG?") == "+3.000000E+00N;+2.000000E+01"
    assert ask("SENS:VOLT:RANG 2;RANG:AUTO?;:READ?") == "0;+9.900000E+37O"
    ask("SOUR:VOLT -6")
    assert ask("READ?") == "-9.900000E+37O"


def test_6517b_measures_current_into_its_input() -> None:
    bench, ask = electrometer()
    ask("FORM:ELEM READ;:SENS:FUNC 'CURR';:SOUR:VOLT 2;:OUTP ON;:SYST:ZCH OFF")
    assert floats(ask("READ?")) == pytest.approx([2e-6])  # the input is a virtual ground behind 1 Mohm
    assert bench.plant.node_voltages()["2"] == pytest.approx(0.0, abs=1e-12)
    assert ask("SENS:CURR:RANG 2e-9;:READ?") == "+9.900000E+37"


def test_6517b_integration_time_passes() -> None:
    bench, ask = electrometer()
    before = bench.plant.clock.now()
    ask("SENS:VOLT:NPLC 10;AVER:COUN 5;STAT ON;:READ?")
    assert bench.plant.clock.now() - before == pytest.approx(50 / 50.0)


def test_6517b_buffer_and_counts() -> None:
    _, ask = electrometer()
    ask("FORM:ELEM READ;:SYST:ZCH OFF;:TRAC:POIN 3;FEED:CONT NEXT;:TRIG:COUN 3;:SOUR:VOLT 2;:OUTP ON;:INIT")
    assert floats(ask("TRAC:DATA?")) == pytest.approx([1.0, 1.0, 1.0])
    assert len(floats(ask("READ?"))) == 3


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ("FETC?", '-230,"Data corrupt or stale"'),
        ("SENS:FUNC 'OHMS'", '-224,"Illegal parameter value"'),
        ("SENS:VOLT:NPLC 99", '-222,"Data out of range"'),
        ("SOUR:VOLT 200", '-222,"Data out of range"'),
        ("TRAC:DATA?", '-230,"Data corrupt or stale"'),
        ("SENS:TEMP:RANG 1", '-113,"Undefined header"'),
    ],
)
def test_6517b_errors(message: str, error: str) -> None:
    _, ask = electrometer()
    assert ask(message) is None
    assert ask("SYST:ERR?") == error


def test_6517b_is_honest_unless_ideal() -> None:
    bench, ask = electrometer(ideal=False, seed=2)
    ask("SYST:ZCH OFF")
    facts = bench.plant.sources()["it"][""]
    assert facts["input_resistance"] == pytest.approx(200e12)
    assert 0.0 < abs(float(facts["bias_current"])) < 4e-15  # type: ignore[arg-type]
    ask("FORM:ELEM READ;:SOUR:VOLT 2;:OUTP ON;:SENS:VOLT:RANG 2;:TRIG:COUN 200")
    readings = floats(ask("READ?"))
    mean = sum(readings) / 200
    spread = (sum((r - mean) ** 2 for r in readings) / 200) ** 0.5
    assert spread == pytest.approx(1.5e-6, rel=0.3)
    assert 1e-7 < abs(mean - 1.0) < 2.9e-4


# Keithley DAQ6510 ----------------------------------------------------------------------------------------------------


def voltmeter(ports: dict[str, str], **options: object) -> tuple[Rig, Ask]:
    bench = bench_of("KeithleyDAQ6510", ports, **options)  # type: ignore[arg-type]
    bench.plant.electrical("helper", "hi").set_source(VoltageSource(6.0))
    return bench, talk(bench)


def test_daq_defaults_follow_the_manual() -> None:
    bench, ask = voltmeter({"2": ""}, ideal=False)
    assert ask("SENS:FUNC?;:SENS:VOLT:RANG:AUTO?;:SENS:VOLT:INP?;NPLC?;AZER?") == '"VOLT:DC";1;MOHM10;1;1'
    assert ask("ROUT:TERM?;:SENS:COUN?;:FORM?") == "FRON;1;ASC"
    assert bench.plant.sources()["it"][""]["input_resistance"] == pytest.approx(10e6)


def test_daq_loads_by_what_its_range_and_setting_say() -> None:
    bench, ask = voltmeter({"2": ""}, ideal=False, seed=5)
    ask("SENS:VOLT:RANG 10")
    # 6 V behind 1 M, 1 M || 10 M to ground; one year's limits of error of the range and 50 pA into half a megohm
    loaded = 6.0 * (10 / 11) / (1 + 10 / 11)
    assert floats(ask("READ?")) == pytest.approx([loaded], abs=25e-6 * loaded + 50e-6 + 40e-6)
    ask("SENS:VOLT:INP AUTO")
    assert floats(ask("READ?")) == pytest.approx([3.0 - 3.0 * 0.5e6 / 10e9], abs=25e-6 * 3 + 50e-6 + 40e-6)
    ask("SENS:VOLT:RANG 100")
    assert bench.plant.sources()["it"][""]["input_resistance"] == pytest.approx(10e6)
    assert floats(ask("READ?")) == pytest.approx([loaded], abs=45e-6 * loaded + 700e-6)


def test_daq_loads_nothing_when_ideal() -> None:
    _, ask = voltmeter({"2": ""})
    assert ask("SENS:VOLT:RANG 10;:READ?") == "3.000000E+00"


def test_daq_counts_time_and_status() -> None:
    bench, ask = voltmeter({"2": ""})
    ask("SENS:VOLT:RANG 10;NPLC 2;AZER OFF;INP AUTO;:SENS:COUN 3")
    before = bench.plant.clock.now()
    assert ask('READ? "defbuffer1", READ, REL, STAT, CHAN, UNIT') == "3.000000E+00,0.080000,8,0,Volt DC"
    assert bench.plant.clock.now() - before == pytest.approx(3 * 2 / 50.0)
    assert ask("TRAC:ACT?") == "3"
    assert ask('TRAC:DATA? 2, 3, "defbuffer1", REL') == "0.040000,0.080000"
    assert ask("FETC?") == "3.000000E+00"


def test_daq_scans_its_channels_and_only_the_closed_one_is_loaded() -> None:
    bench, ask = voltmeter({"1": "ch101", "2": "ch102"})
    ask("SENS:VOLT:RANG 10, (@101:103);INP AUTO, (@101,102);NPLC 1, (@101:103)")
    ask("ROUT:SCAN:CRE (@101:103);COUN:SCAN 2")
    assert ask("ROUT:TERM?;:ROUT:SCAN?;:ROUT:SCAN:COUN:STEP?") == "REAR;(@101,102,103);3"
    ask("INIT;*WAI")
    assert ask("TRAC:ACT?;:ROUT:SCAN:STATE?") == "6;SUCCESS;2;0"
    values = floats(ask("TRAC:DATA? 1, 6"))
    assert values[:2] == pytest.approx([6.0, 3.0], abs=1.1e-5)
    assert values[3:5] == values[:2]
    assert ask('TRAC:DATA? 1, 4, "defbuffer1", CHAN') == "101,102,103,101"
    loads = {port: facts["input_resistance"] for port, facts in bench.plant.sources()["it"].items()}
    assert set(loads.values()) == {inf}
    ask("ROUT:CLOS (@102)")
    assert bench.plant.sources()["it"]["ch102"]["input_resistance"] == inf  # ideal instruments load nothing at high impedance
    assert ask("ROUT:CLOS?") == "(@102)"
    assert floats(ask("READ?")) == pytest.approx([3.0], abs=1.1e-5)
    ask("ROUT:OPEN (@102)")
    assert ask("ROUT:CLOS?") == "(@)"


def test_daq_closed_channel_is_loaded_when_honest() -> None:
    bench, ask = voltmeter({"1": "ch101", "2": "ch102"}, ideal=False)
    ask("SENS:VOLT:RANG 10, (@101:102);INP AUTO, (@101:102);:ROUT:CLOS (@102)")
    facts = bench.plant.sources()["it"]
    assert facts["ch102"]["input_resistance"] == pytest.approx(10e9)
    assert facts["ch101"]["input_resistance"] == inf
    assert 0.0 < abs(facts["ch102"]["bias_current"]) < 70e-12  # type: ignore[arg-type]


def test_daq_overflow_and_autorange() -> None:
    _, ask = voltmeter({"2": ""})
    assert ask("SENS:VOLT:INP AUTO;RANG 1;:READ?") == "9.900000E+37"
    assert ask("SENS:VOLT:RANG:AUTO ON;:READ?;:SENS:VOLT:RANG?") == "3.000000E+00;10"


def test_daq_simple_loop_and_own_buffer_and_binary() -> None:
    bench, ask = voltmeter({"2": ""})
    ask('SENS:VOLT:RANG 10;INP AUTO;:TRIG:LOAD "SimpleLoop", 4;:INIT')
    assert ask("TRAC:ACT?") == "4"
    assert ask('TRAC:MAKE "mine", 10;:SENS:COUN 12;:READ? "mine";:TRAC:ACT? "mine"') == "3.000000E+00;10"
    raw = bench.emulator.receive(b"FORM REAL;:TRAC:DATA? 1, 2")
    assert raw is not None
    assert raw[:2] == b"#0"
    assert len(raw) == 2 + 16 + 1


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("ROUT:CLOS (@199)", -222),
        ("ROUT:CLOS (@101,102)", -222),
        ("SENS:FUNC 'TEMP'", -241),
        ("INIT", -221),
        ("FETC?", -230),
        ("TRAC:DATA? 1, 5", -222),
        ('READ? "nothing"', -224),
        ("SENS:VOLT:NPLC 100", -222),
        ("TRAC:DEL 'defbuffer1'", -221),
        ("NONSENSE?", -113),
    ],
)
def test_daq_errors(message: str, code: int) -> None:
    _, ask = voltmeter({"2": ""})
    assert ask(message) is None
    reply = ask("SYST:ERR?")
    assert reply is not None
    assert int(reply.split(",")[0]) == code
    assert ask("SYST:ERR?") == '0,"No error;0;0 0"'


def test_daq_noise_falls_with_integration_time() -> None:
    def spread(nplc: float) -> float:
        _, ask = voltmeter({"2": ""}, ideal=False, seed=1)
        ask(f"SENS:VOLT:RANG 10;INP AUTO;NPLC {nplc};AZER OFF;:SENS:COUN 200;:READ?")
        readings = floats(ask("TRAC:DATA? 1, 200"))
        mean = sum(readings) / 200
        return (sum((r - mean) ** 2 for r in readings) / 200) ** 0.5

    assert spread(0.0005) == pytest.approx(6.5e-4, rel=0.3)
    assert spread(0.1) < 0.1 * spread(0.0005)


# Registry ------------------------------------------------------------------------------------------------------------


def test_every_emulator_registers_its_models() -> None:
    assert {"DruckPACE6000", "Keithley6517B", "KeithleyDAQ6510"} <= set(models())


def test_unknown_models_and_options_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"there is no emulator for 'Keithley999'; models: .*DruckPACE6000"):
        bench_of("Keithley999", {})
    with pytest.raises(ConfigError, match=r"KeithleyDAQ6510 has no option 'colour'"):
        bench_of("KeithleyDAQ6510", {}, colour="red")
    with pytest.raises(ConfigError, match=r"must be one of socket, serial"):
        bench_of("KeithleyDAQ6510", {}, transport="pigeon")
