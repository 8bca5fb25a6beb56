import struct

import numpy as np
import pytest
from qcodes.instrument_drivers.Keithley._Keithley_2600 import Keithley2600Channel as StockChannel

from hil.core.errors import ConfigError, InstrumentError
from hil.core.types import SafeAction
from instruments.keithley_2600 import Keithley2602B, Keithley2636B
from instruments.keithley_2600_routines import LONGEST_LINE, in_lines
from simulated_backend.virtual_bench.process import VirtualBench
from tests.smu_rig import plan, resistors
from tests.unit.instruments.conftest import Build

FORMAT = ("format.asciiprecision=10 format.byteorder=format.LITTLEENDIAN hil_alive=1", None)
CONFIGURE = (
    "smua.source.output=0 smua.source.func=1 smua.source.levelv=0 smua.source.autorangev=0 smua.source.limiti=1e-05 "
    "smua.source.rangev=6 "
    "smua.source.limiti=1e-05 smua.source.offfunc=1 smua.source.offlimiti=0.001 smua.source.offmode=0 "
    "smua.measure.filter.enable=0 smua.measure.rel.enablev=0 smua.measure.rel.enablei=0 "
    "print(smua.source.rangev,smua.source.limiti,smua.source.offmode,errorqueue.count)"
)
MEASURE = (
    "smua.measure.nplc=1 smua.sense=0 smua.measure.autozero=2 smua.measure.autorangev=1 smua.measure.autorangei=1 "
    "print(smua.measure.nplc,smua.sense,smua.measure.autozero,smua.measure.autorangev,smua.measure.autorangei,errorqueue.count)"
)
READ_BOTH = """loadandrunscript
function hil_routine_1(count)
smua.nvbuffer1.clear() smua.nvbuffer2.clear() smua.measure.count = count
smub.nvbuffer1.clear() smub.nvbuffer2.clear() smub.measure.count = count
smua.measure.overlappedi(smua.nvbuffer1)
smub.measure.overlappediv(smub.nvbuffer1, smub.nvbuffer2)
waitcomplete()
smua.measure.count = 1
smub.measure.count = 1
format.data = format.REAL64
printbuffer(1, count, smua.nvbuffer1.readings, smub.nvbuffer1.readings, smub.nvbuffer2.readings, smua.nvbuffer1.statuses, \
smub.nvbuffer1.statuses, smub.nvbuffer2.statuses)
end
endscript"""


def block(*rows: tuple[float, ...]) -> bytes:
    flat = [value for row in rows for value in row]
    return b"#0" + struct.pack(f"<{len(flat)}d", *flat) + b"\n"


def test_configuring_locks_the_range_and_reads_the_compliance_back(build: Build) -> None:
    smu, _ = build(
        Keithley2602B,
        FORMAT,
        (CONFIGURE, "6.000000000e+00\t1.000000000e-05\t0.0\t0.000000000e+00"),
        (MEASURE, "1\t0\t2\t1\t1\t0"),
    )
    assert list(smu.smua.configure_source(plan())) == []
    known = smu.settings()
    assert known["smua.compliance_A"] == 1e-5
    assert (known["smua.nplc"], known["smua.four_wire"], known["smua.curr_range"]) == (1.0, False, "auto")


def test_sense_leads_that_stay_in_use_are_an_error(build: Build) -> None:
    smu, _ = build(Keithley2602B, FORMAT, (CONFIGURE, "6\t1e-05\t0\t0"), (MEASURE, "1\t1\t2\t1\t1\t0"))
    with pytest.raises(InstrumentError, match=r"smua\.sense = 1 after configuring the meter, although 0 was sent"):
        smu.smua.configure_source(plan())


def test_a_compliance_that_was_silently_ignored_is_an_error(build: Build) -> None:
    smu, _ = build(Keithley2602B, FORMAT, (CONFIGURE, "6\t1.000000000e-01\t0\t0"))
    with pytest.raises(InstrumentError, match=r"'unit'.*limiti = 0\.1.*1e-05 was sent"):
        smu.smua.configure_source(plan())


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"maximum": 41.0}, "more than the 2602B sources"),
        ({"compliance": 1e-9}, "outside 1e-08"),
        ({"compliance": None}, "needs a compliance"),
        ({"settings": {"colour": 1}}, "no setting 'colour'"),
        ({"settings": {"off_mode": "maybe"}}, "zero or high_impedance"),
    ],
)
def test_a_plan_the_instrument_cannot_keep_is_refused_before_anything_is_sent(
    build: Build, changes: dict[str, object], sentence: str
) -> None:
    smu, _ = build(Keithley2602B)
    with pytest.raises(ConfigError, match=sentence):
        smu.smua.configure_source(plan(**changes))


def test_measuring_settings_of_a_source(build: Build) -> None:
    smu, _ = build(
        Keithley2602B,
        FORMAT,
        (CONFIGURE.replace("offmode=0", "offmode=2"), "6\t1e-05\t2\t0"),
        (
            "smua.measure.nplc=2 smua.sense=1 smua.measure.autozero=0 smua.measure.autorangev=1 smua.measure.autorangei=0 "
            "smua.measure.rangei=1e-05 print(smua.measure.nplc,smua.sense,smua.measure.autozero,smua.measure.autorangev,"
            "smua.measure.autorangei,smua.measure.rangei,errorqueue.count)",
            "2\t1\t0\t1\t0\t1e-05\t0",
        ),
    )
    smu.smua.configure_source(
        plan(settings={"nplc": 2.0, "current_range": 5e-6, "four_wire": True, "auto_zero": False, "off_mode": "high_impedance"})
    )


def test_what_a_control_and_an_output_want_of_one_meter_has_to_agree(build: Build) -> None:
    smu, _ = build(Keithley2602B, FORMAT, (MEASURE.replace("nplc=1", "nplc=2"), "2\t0\t2\t1\t1\t0"))
    smu.smua.configure_meter("curr", {"nplc": 2.0})
    with pytest.raises(ConfigError, match=r"its output volt wants nplc 1\.0, its output curr 2\.0, and there is only one"):
        smu.smua.configure_meter("volt", {"nplc": 1.0})
    with pytest.raises(ConfigError, match=r"its control wants nplc 0\.1, its output curr 2\.0"):
        smu.smua.configure_source(plan(settings={"nplc": 0.1}))


def test_two_levels_and_their_check_are_one_message(build: Build) -> None:
    message = (
        "smua.source.levelv=1.5 smub.source.levelv=-0.25 "
        "print(smua.source.levelv,smub.source.levelv,smua.source.output,smub.source.output,errorqueue.count)"
    )
    smu, _ = build(Keithley2602B, FORMAT, (message, "1.5\t-0.25\t1\t1\t0"))
    smu.level_writer(["smua", "smub"])([1.5, -0.25])


@pytest.mark.parametrize(
    ("reply", "rest", "sentence"),
    [
        ("1.2\t1\t0", (), "is at 1.2 V, although 1.5 V was sent"),
        ("1.5\t0\t0", (), "output off"),
        (
            "1.5\t1\t1.00000e+00",
            (
                ("print(errorqueue.count)", "1.00000e+00"),
                ("print(errorqueue.next())", "1.10200e+03\tParameter too big\t2.00000e+01\t1.00000e+00"),
                ("print(errorqueue.count)", "0.00000e+00"),
            ),
            "1102 Parameter too big.*setting levels",
        ),
    ],
)
def test_a_write_that_did_not_do_what_was_asked_is_found_at_once(
    build: Build, reply: str, rest: tuple[tuple[str, str], ...], sentence: str
) -> None:
    message = "smua.source.levelv=1.5 print(smua.source.levelv,smua.source.output,errorqueue.count)"
    smu, _ = build(Keithley2602B, FORMAT, (message, reply), *rest)
    with pytest.raises(InstrumentError, match=sentence):
        smu.level_writer(["smua"])([1.5])


def test_a_run_time_error_is_told_in_the_queues_own_words(build: Build) -> None:
    message = "smua.source.levelv=1.5 print(smua.source.levelv,smua.source.output,errorqueue.count)"
    smu, _ = build(
        Keithley2602B,
        FORMAT,
        (message, None),
        ("*IDN?", "Keithley Instruments Inc., Model 2602B, 1234567, 3.3.5"),
        ("print(errorqueue.count)", "1"),
        ("print(errorqueue.next())", "-286\tTSP Runtime error at line 1\t20\t1"),
        ("print(errorqueue.count)", "0"),
    )
    with pytest.raises(InstrumentError, match=r"-286 TSP Runtime error"):
        smu.level_writer(["smua"])([1.5])


def test_switching_on_and_off_is_verified(build: Build) -> None:
    on = "if hil_alive then smub.source.levelv=0 smub.source.output=1 end print(smub.source.output,errorqueue.count)"
    off = (
        "smub.source.offmode={0} smub.source.output=0 smub.source.levelv=0 "
        "print(smub.source.output,smub.source.offmode,errorqueue.count)"
    )
    smu, _ = build(
        Keithley2602B, FORMAT, (on, "1\t0"), (off.format(2), "0\t2\t0"), (off.format(0), "0\t0\t0"), (off.format(0), "1\t0\t0")
    )
    smu.smub.enable(0.0)
    smu.smub.disable(SafeAction.HIGH_IMPEDANCE)
    smu.smub.disable(SafeAction.LEVEL)
    with pytest.raises(InstrumentError, match=r"output"):
        smu.smub.disable(SafeAction.LEVEL)


def test_a_source_that_is_off_is_not_measured(build: Build) -> None:
    ask = "print(smua.source.levelv, smua.source.output)"
    smu, _ = build(Keithley2602B, (ask, "3.0\t0"), (ask, "3.0\t1"), ("print(smua.measure.v())", "2.9995"))
    off = smu.smua.source_state()
    assert (off.level, off.on, np.isnan(off.actual)) == (3.0, False, True)
    assert smu.smua.source_state() == (3.0, 2.9995, True)


def test_condition_of_both_channels_in_one_query(build: Build) -> None:
    message = (
        "print(smua.source.levelv,smua.source.output,smua.source.compliance,"
        "smub.source.levelv,smub.source.output,smub.source.compliance)"
    )
    smu, _ = build(Keithley2602B, (message, "1.5\t1.0\tfalse\t0.5\t0.0\ttrue"))
    assert smu.condition_reader(["smua", "smub"])() == [(1.5, True, True), (0.5, False, False)]


def test_both_channels_are_measured_overlapped_and_read_as_doubles(build: Build) -> None:
    rows = (
        (1.1e-7, 2.2e-7, 0.5, 0.0, 0.0, 0.0),
        (1.0e-7, 2.0e-7, 9.91e37, 64.0, 2.0, 0.0),
    )
    smu, _ = build(Keithley2602B, FORMAT, (READ_BOTH, None), ("print(errorqueue.count)", "0"), ("hil_routine_1(2)", block(*rows)))
    read = smu.acquisition([("smua", "curr"), ("smub", "curr"), ("smub", "volt")])
    values, overload = read(2)
    assert np.array_equal(values, [[1.1e-7, 2.2e-7, 0.5], [1.0e-7, 2.0e-7, np.nan]], equal_nan=True)
    # bit 6 is compliance, bit 1 over-temperature, 9.91e37 no number at all
    assert overload.tolist() == [[False, False, False], [True, True, True]]


def test_a_damaged_block_is_an_error_and_not_data(build: Build) -> None:
    smu, _ = build(
        Keithley2602B,
        FORMAT,
        (READ_BOTH, None),
        ("print(errorqueue.count)", "0"),
        ("hil_routine_1(1)", b"X0" + bytes(48) + b"\n"),
        ("*IDN?", "Keithley Instruments Inc., Model 2602B, 1234567, 3.3.5"),
        ("print(errorqueue.count)", "0"),
        ("print(hil_alive)", "1.000000000e+00"),
        ("hil_routine_1(1)", b"X0" + bytes(48) + b"\n"),
    )
    with pytest.raises(InstrumentError, match=r"twice while reading.*damaged block"):
        smu.acquisition([("smua", "curr"), ("smub", "curr"), ("smub", "volt")])(1)


def test_a_pulse_is_one_function_that_ends_at_zero(build: Build) -> None:
    routine = (
        "loadandrunscript\nfunction hil_routine_1(level, width, period, count)\nfor index = 1, count do\n"
        "smua.source.levelv = level delay(width)\nsmua.source.levelv = 0 delay(period - width)\nend\nsmua.source.levelv = 0\n"
        "print(smua.source.levelv, errorqueue.count)\nend\nendscript"
    )
    smu, _ = build(
        Keithley2602B,
        FORMAT,
        (routine, None),
        ("print(errorqueue.count)", "0"),
        ("hil_routine_1(2,0.01,0.05,3)", "0\t0"),
    )
    smu.pulse("smua", 2.0, 0.01, period=0.05, count=3)
    with pytest.raises(ValueError, match=r"40.4"):
        smu.pulse("smua", 50.0, 0.01, period=0.05)
    with pytest.raises(ConfigError, match=r"does not fit"):
        smu.pulse("smua", 2.0, 0.05, period=0.05)


def test_source_levels_have_limits_and_all_their_digits(build: Build) -> None:
    sent = ("smua.source.leveli=1.2345678e-11 print(errorqueue.count)", "0")
    smu, _ = build(Keithley2636B, FORMAT, sent)
    smu.smua.curr(1.2345678e-11)
    with pytest.raises(ValueError, match=r"1.515"):
        smu.smua.curr(2.0)
    with pytest.raises(ValueError, match=r"202"):
        smu.smua.volt(1e6)


def test_overflow_is_no_voltage_and_compliance_is_seen(build: Build) -> None:
    ask = "print(smua.measure.v(), smua.source.compliance)"
    smu, _ = build(Keithley2602B, (ask, "9.910000e+37\tfalse"), (ask, "1.5\ttrue"))
    assert np.isnan(smu.smua.volt())
    assert smu.smua.volt.limited is False
    assert smu.smua.volt() == 1.5
    assert smu.smua.volt.limited is True


def test_the_missing_range_of_the_2636b_is_there(build: Build) -> None:
    smu, _ = build(Keithley2636B)
    assert isinstance(smu.smua, StockChannel)
    assert 10e-3 in smu.current_ranges
    assert list(smu.current_ranges) == sorted(smu.current_ranges)


def test_another_model_than_the_station_says_is_refused(build: Build) -> None:
    from tests.unit.instruments.scripted import scripted

    session, resource = scripted(
        "other", Keithley2602B.link, "Keithley Instruments Inc., Model 2636B, 1, 3", ("print(localnode.model)", "2636B")
    )
    with pytest.raises(InstrumentError, match=r"'other' is a 2636B.*Keithley2602B"):
        Keithley2602B("other", session=session)
    assert resource.closed


def test_a_list_of_many_levels_is_sent_in_lines_that_the_instrument_takes() -> None:
    """It loses what comes in lines of more than about a thousand characters, and the emulated one does, too."""
    with VirtualBench.start(resistors("Keithley2602B", {"1": "smua"})) as bench:
        smu = Keithley2602B("smu", bench.addresses["it"])
        try:
            smu.smua.configure_source(plan(settings={"nplc": 0.01}))
            smu.smua.enable(0.0)
            levels = np.linspace(-1.23456789, 3.21098765, 1000)[:, None]
            run, _ = smu.list_acquisition(["smua"], [("smua", "volt"), ("smua", "curr")], 0.0)
            values = run(levels, 1, True).values
            np.testing.assert_allclose(values[:, 0], levels[:, 0], atol=15e-3)
            np.testing.assert_allclose(values[:, 1], 1e-6 * levels[:, 0], atol=1e-7)
            assert bench.side_door.voltages()["1"] == pytest.approx(0.0, abs=5e-3)
            smu.write("x = {" + ",".join(["0.123456789"] * 100) + "}")
            assert smu.errors() == ["-363 Input buffer overrun"]
        finally:
            smu.close()


@pytest.mark.parametrize("length", [10, LONGEST_LINE, LONGEST_LINE + 1, 40_000])
def test_lines_of_a_call_are_short_and_say_the_same(length: int) -> None:
    call = f"f({'1,' * (length // 2 - 2)}1)".ljust(length, " ")
    lines = in_lines(call).split("\n")
    assert max(map(len, lines)) <= LONGEST_LINE
    assert "".join(lines[1:-1] if len(lines) > 1 else lines) == call


def test_a_waveform_that_cannot_keep_its_times_goes_to_0_volts_at_once() -> None:
    """Autorange waits for its small ranges: pulses of 50 ms took a second on a 2636B, and their readings were of other times."""
    begins = np.ravel([[0.1 * k, 0.1 * k + 0.05] for k in range(10)])
    levels = np.tile([2.0, 0.0], 10)[:, None]
    samples = np.linspace(0.01, 1.0, 100)
    with VirtualBench.start(resistors("Keithley2636B", {"1": "smua"})) as bench:
        smu = Keithley2636B("smu", bench.addresses["it"])
        try:
            smu.smua.configure_source(plan(settings={"nplc": 0.1}))
            smu.smua.enable(0.0)
            play, _ = smu.waveform_player(["smua"], [("smua", "curr")])
            before = bench.clock.now()
            with pytest.raises(InstrumentError, match=r"fell .* s behind while it played a waveform, and went to 0 V; fix its"):
                play(levels, begins, samples, 1.0)
            assert bench.clock.now() - before < 2.0  # s of the bench
            assert bench.side_door.voltages()["1"] == pytest.approx(0.0, abs=5e-3)
            smu.smua.configure_source(plan(settings={"nplc": 0.1, "current_range": 1e-5}))
            smu.smua.enable(0.0)
            before = bench.clock.now()
            values = play(levels, begins, samples, 1.0).values[:, 0]
            assert bench.clock.now() - before == pytest.approx(1.0, abs=1e-3)
            np.testing.assert_allclose(values, np.tile(np.repeat([2e-6, 0.0], 5), 10), atol=2e-8)
            assert smu.errors() == []
        finally:
            smu.close()


def test_what_somebody_left_in_a_channel_is_put_right_with_its_output_off() -> None:
    """A limit too high for the new range, an offset, a filter, and an off state that holds 0 A instead of 0 V."""
    with VirtualBench.start(resistors("Keithley2602B", {"1": "smua"})) as bench:
        smu = Keithley2602B("smu", bench.addresses["it"])
        try:
            smu.write("smua.source.rangev=6 smua.source.limiti=3 smua.source.offfunc=0 smua.source.offlimiti=1")
            smu.write(
                "smua.measure.rel.levelv=1 smua.measure.rel.enablev=1 smua.measure.rel.leveli=1e-6 smua.measure.rel.enablei=1"
            )
            smu.write("smua.measure.filter.type=0 smua.measure.filter.count=10 smua.measure.filter.enable=1")
            smu.write("smua.sense=1 smua.measure.nplc=10 smua.measure.autozero=0 smua.measure.rangei=100e-9")
            smu.smua.configure_source(plan(maximum=20.0, minimum=-20.0))
            assert smu.ask("smua.sense") == "0.000000000e+00"
            assert smu.ask("smua.measure.autozero") == "2.000000000e+00"
            assert bench.side_door.sources()["it"]["smua"]["source"] == "VoltageSource"  # it holds 0 V while it is off
            smu.smua.enable(2.0)
            before = bench.clock.now()
            values = smu.acquisition([("smua", "volt"), ("smua", "curr")])(1).values[0]
            assert values.tolist() == pytest.approx([2.0, 2e-6], rel=0.02)
            assert bench.clock.now() - before < 0.1  # s of the bench: no filter, 1 PLC
        finally:
            smu.close()
