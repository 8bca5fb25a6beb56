"""The emulated pressure controllers: their command language, and what they do to the plant."""

import pytest

from hil.core.errors import ConfigError
from tests.unit.virtual_bench.scpi_rig import ATMOSPHERE, Rig, bench_of, talk


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
        ("SOUR:PRES 99999", '-222,"Data out of range; Parameter 1"'),
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


def test_replies_beyond_the_output_queue_are_lost(pace: Rig) -> None:
    ask = talk(pace)
    assert len(ask(";".join([":SENS?"] * 10)) or "") in range(200, 256)
    ask(";".join([":SENS?"] * 12))  # section 3.1: 256 characters, and the newest message is lost
    assert "Queue overflow" in (ask(":SYST:ERR?") or "")
