"""Settings of serial lines: from the bench file's options to the resource, in the program and in its guard."""

from types import SimpleNamespace
from typing import Any

import pytest
from pyvisa.constants import ControlFlow, Parity, StopBits

from hil.core.errors import ConfigError
from instruments.base import chosen_link
from instruments.druck_pace import DruckPACE5000
from instruments.guard_plan import _line
from instruments.serial_line import CHOICES, set_line
from instruments.station import check_station
from instruments.visa import Link, configure
from instruments.wiring import InstrumentSpec

ODD: dict[str, str | int] = {"baud_rate": 19_200, "data_bits": 7, "parity": "odd", "stop_bits": 2, "flow_control": "rts_cts"}


def told(link: Link) -> dict[str, Any]:
    resource: Any = SimpleNamespace()
    configure(resource, "ASRL/dev/ttyUSB9::INSTR", link)
    said: dict[str, Any] = vars(resource)
    return said


def test_what_the_bench_file_says_reaches_the_line() -> None:
    said = told(chosen_link(Link("PACE"), "pace", {**ODD, "line_ending": "cr", "timeout": None}))
    assert said["baud_rate"] == 19_200
    assert (said["data_bits"], said["parity"], said["stop_bits"]) == (7, Parity.odd, StopBits.two)
    assert said["flow_control"] is ControlFlow.rts_cts
    assert (said["read_termination"], said["write_termination"]) == ("\r", "\r")


def test_what_every_port_begins_with_is_not_said() -> None:
    # A pseudo-terminal refuses to be told.
    said = told(Link("PACE", baud_rate=9600))
    assert {"data_bits", "parity", "stop_bits", "flow_control"}.isdisjoint(said)


@pytest.mark.parametrize(
    ("key", "word"), [("parity", "mark"), ("data_bits", 9), ("flow_control", "hardware"), ("line_ending", "nl")]
)
def test_a_word_that_there_is_not_is_refused_with_those_there_are(key: str, word: object) -> None:
    with pytest.raises(ConfigError, match=f"instrument 'pace': {key} must be one of .*, not {word!r}"):
        chosen_link(Link("PACE"), "pace", {key: word})


def test_the_station_refuses_it_before_anything_is_opened() -> None:
    spec = InstrumentSpec("pace", "instruments.druck_pace.DruckPACE5000", "ASRL1::INSTR", {"flow_control": "on"})
    with pytest.raises(ConfigError, match=r"flow_control is one of none, xon_xoff, rts_cts, dtr_dsr, not 'on'"):
        check_station([spec], [], [])


def test_the_guard_speaks_on_the_same_line() -> None:
    spec = InstrumentSpec("pace", "instruments.druck_pace.DruckPACE5000", "ASRL1::INSTR", {**ODD, "line_ending": "crlf"})
    plan = _line(spec, DruckPACE5000)
    resource: Any = SimpleNamespace()
    set_line(resource, plan)
    assert {name: plan[name] for name in CHOICES} == {name: ODD[name] for name in CHOICES}
    assert resource.flow_control is ControlFlow.rts_cts
    assert plan["write_termination"] == "\r\n"
