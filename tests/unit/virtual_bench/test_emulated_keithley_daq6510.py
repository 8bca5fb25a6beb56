"""The emulated multimeter with its scanner: its command language, and what it does to the plant."""

from math import inf
from typing import Any

import pytest

from simulated_backend.virtual_bench.ports import VoltageSource
from tests.unit.virtual_bench.scpi_rig import Ask, Rig, bench_of, floats, talk


def voltmeter(ports: dict[str, str], **options: Any) -> tuple[Rig, Ask]:
    bench = bench_of("KeithleyDAQ6510", ports, **options)
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
    assert 0.0 < abs(facts["ch102"]["bias_current"]) < 70e-12


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
