"""The SCPI language itself, on an instrument of two commands."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import pytest

from simulated_backend.virtual_bench.scpi import (
    CommandTree,
    ScpiEmulator,
    ScpiError,
    boolean,
    channel_list,
    choice,
    number,
    quoted,
    split,
)


class Toy(ScpiEmulator):
    """Two numbers under one branch."""

    models: ClassVar[Mapping[str, Mapping[str, object]]] = {}
    identity = "MAKER,TOY,1,2"
    errors_kept = 3

    def declare(self) -> None:
        self.values: dict[tuple[str, int], float] = {}
        for leaf in ("LEVel", "LIMit"):
            self.tree.add(f"SOURce#[:VOLTage]:{leaf}", self._setter(leaf), self._getter(leaf))
        self.tree.add("SYSTem:ERRor[:NEXT]", query=lambda _s, _p: '{},"{}"'.format(*self.next_error()))

    def _setter(self, leaf: str):
        return lambda s, p: self.values.update({(leaf, s[0]): number(p, -10.0, 10.0)})

    def _getter(self, leaf: str):
        return lambda s, _p: f"{self.values.get((leaf, s[0]), 0.0):g}"

    def reset(self) -> None:
        self.values.clear()


@pytest.fixture
def toy() -> Toy:
    return Toy("toy", None, {"identity": None}, np.random.default_rng(0))


def ask(toy: Toy, text: str) -> str | None:
    reply = toy.receive(text.encode())
    return None if reply is None else reply.decode().removesuffix("\n")


@pytest.mark.parametrize(
    "header", ["SOUR:VOLT:LEV", "source:voltage:level", "SOUR:LEV", ":SOUR1:VOLT:LEVEL", "Sour1:Level", ":SOURCE:VOLT:LEV"]
)
def test_short_long_optional_and_numbered_forms_are_one_header(toy: Toy, header: str) -> None:
    toy.receive(f"{header} 2.5".encode())
    assert ask(toy, "SOUR:VOLT:LEV?") == "2.5"
    assert ask(toy, "SYST:ERR?") == '0,"No error"'


@pytest.mark.parametrize("header", ["SOURC:LEV", "SOUR:VOLT1:LEV", "LEV", "SOUR:VOLT", "SOUR:LEVE", "::LEV", "SOUR::LEV2"])
def test_other_forms_are_undefined(toy: Toy, header: str) -> None:
    assert toy.receive(f"{header} 1".encode()) is None
    assert ask(toy, "SYST:ERR?") == '-113,"Undefined header"'


def test_a_following_header_starts_where_the_previous_one_stood(toy: Toy) -> None:
    assert ask(toy, "SOUR2:VOLT:LEV 3;LIM 4;*OPC?;LEV?;LIM?;:SOUR:LEV?") == "1;3;4;0"
    assert toy.values == {("LEVel", 2): 3.0, ("LIMit", 2): 4.0}


def test_an_error_in_one_command_does_not_stop_the_others(toy: Toy) -> None:
    assert ask(toy, "SOUR:LEV 11;LEV 5;LEV?") == "5"
    assert ask(toy, "SYST:ERR?") == '-222,"Data out of range"'


def test_errors_come_oldest_first_and_an_overflow_is_said(toy: Toy) -> None:
    for text in ("FOO", "SOUR:LEV 99", "SOUR:LEV", "BAR"):
        toy.receive(text.encode())
    assert [ask(toy, "SYST:ERR:NEXT?") for _ in range(4)] == [
        '-113,"Undefined header"',
        '-222,"Data out of range"',
        '-350,"Queue overflow"',
        '0,"No error"',
    ]


def test_registers(toy: Toy) -> None:
    assert ask(toy, "*ESR?") == "128"
    assert ask(toy, "*ESR?") == "0"
    toy.receive(b"*ESE 32;*SRE 32;BAD")
    assert ask(toy, "*STB?") == str(4 + 32 + 64)
    assert ask(toy, "*ESR?") == "32"
    toy.receive(b"*CLS")
    assert ask(toy, "*STB?") == "0"
    toy.receive(b"*OPC")
    assert ask(toy, "*ESR?") == "1"
    assert ask(toy, "*IDN?;*TST?") == "MAKER,TOY,1,2;0"


def test_reset_clears_settings_but_no_errors(toy: Toy) -> None:
    toy.receive(b"SOUR:LEV 4;BAD;*RST")
    assert ask(toy, "SOUR:LEV?;:SYST:ERR?") == '0;-113,"Undefined header"'


def test_parameters() -> None:
    assert number(["MAX"], 0.0, 7.0) == 7.0
    assert number(["default"], 0.0, 7.0, 3.0) == 3.0
    assert number(["1e-3"], 0.0, 7.0) == 1e-3
    assert boolean(["on"])
    assert not boolean(["0"])
    assert choice(["linear"], ("MAXimum", "LINear")) == "LIN"
    assert quoted(["'VOLT:DC'"]) == "VOLT:DC"
    assert channel_list("(@101,103:105, 110)") == [101, 103, 104, 105, 110]
    assert channel_list("(@103:101)") == [103, 102, 101]
    assert split("A 'x;y';B (1;2);C", ";") == ["A 'x;y'", "B (1;2)", "C"]


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda: number([], 0, 1), -109),
        (lambda: number(["1", "2"], 0, 1), -108),
        (lambda: number(["abc"], 0, 1), -120),
        (lambda: number(["'1'"], 0, 1), -104),
        (lambda: number(["nan"], 0, 1), -222),
        (lambda: number(["2"], 0, 1), -222),
        (lambda: boolean(["maybe"]), -141),
        (lambda: choice(["LI"], ("LINear",)), -224),
        (lambda: quoted(["VOLT"]), -151),
        (lambda: channel_list("101"), -104),
        (lambda: channel_list("(@x)"), -120),
    ],
    ids=["missing", "two", "word", "string", "nan", "large", "no_boolean", "no_keyword", "unquoted", "no_list", "no_channel"],
)
def test_wrong_parameters_have_their_error_numbers(call, code: int) -> None:
    with pytest.raises(ScpiError) as caught:
        call()
    assert caught.value.code == code


def test_a_keyword_may_be_left_out_only_where_the_notation_says_so() -> None:
    tree = CommandTree()
    tree.add("A[:B]:C", query=lambda _s, _p: "x")
    assert tree.find("A:C", "") is not None
    assert tree.find("A:B:C", "") is not None
    assert tree.find("C", "") is None
    assert tree.find("C", "A:B") is not None
