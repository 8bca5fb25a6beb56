"""What the command line prints of a run: every value with its unit, where it has one."""

from typing import Any

from hil.shown import in_columns, run_lines

UNITS = {"V2": "V", "V3": "V", "I": "A", "P1": "Pa", "rho": "1"}


def lines(outputs: dict[str, float], **changes: Any) -> list[str]:
    summary = {"run_id": 3, "outcome": "converged", "steps": 2, "relaxations": 9, "loss": 1.5e-6, "loss_floor": 1e-6,
               "outputs": outputs, "weights": {}, "warnings": [], "results": {"reason": "enough"}}  # fmt: skip
    return run_lines({**summary, **changes}, UNITS)


def test_outputs_and_weights_have_units_and_the_loss_their_square() -> None:
    assert lines({"V2": 3.9999, "V3[1]": 1.0}, weights={"P1": 101510.0, "rho": 0.25, "old": 2.0}, warnings=["hot"]) == [
        "run 3: converged after 2 steps and 9 relaxations",
        "  loss 1.5e-06 V^2 (floor 1e-06 V^2); enough",
        "  V2 = 3.9999 V",
        "  V3[1] = 1 V",
        "  P1 = 101510 Pa",
        "  rho = 0.25",
        "  old = 2",
        "  warning: hot",
    ]


def test_a_run_that_was_stopped_says_how_it_goes_on() -> None:
    assert lines({}, results={"reason": "enough", "resumable": True, "resume": "hil resume 3 --data d"})[-1] == (
        "  it can go on: hil resume 3 --data d"
    )
    assert lines({}, results={"reason": "enough", "resumable": False, "not_resumable": "no state"})[-1] == (
        "  it cannot go on: no state"
    )
    assert "go on" not in lines({})[-1]


def test_a_loss_of_outputs_in_several_units_or_none_has_no_unit() -> None:
    assert lines({"V2": 1.0, "I": 1e-6})[1] == "  loss 1.5e-06 (floor 1e-06); enough"
    assert lines({})[1] == "  loss 1.5e-06 (floor 1e-06); enough"
    assert lines({"V2": 1.0}, loss_floor=None)[1] == "  loss 1.5e-06 V^2 (floor -); enough"


def test_what_has_no_loss_shows_none() -> None:
    assert lines({}, loss=None, loss_floor=None, steps=0) == ["run 3: converged after 9 relaxations", "  enough"]


def test_a_table_fits_the_terminal_and_loses_nothing() -> None:
    rows = [("ok", "edge a", "conducts 1 of what the twin says"), ("wrong", "hydrostatic zero P1", "word " * 40 + "end")]
    narrow = in_columns(rows, 80)
    assert narrow[0] == "  ok     edge a               conducts 1 of what the twin says"
    assert len(narrow) > 3
    assert max(map(len, narrow)) <= 80
    assert all(line.startswith(" " * 30) for line in narrow[2:])
    assert " ".join(" ".join(narrow[1:]).split()) == " ".join(" ".join(rows[1]).split())
    assert in_columns(rows)[1].endswith("word end")
    assert in_columns([]) == []


def test_an_error_that_was_told_is_not_told_again() -> None:
    summary = {"run_id": 3, "outcome": "stopped", "steps": 0, "relaxations": 1, "loss": None, "loss_floor": None, "outputs": {},
               "weights": {}, "warnings": [], "results": {"reason": "no answer"}}  # fmt: skip
    assert run_lines(summary, UNITS, "no answer") == ["run 3: stopped after 1 relaxations"]
    assert run_lines(summary, UNITS, "something else")[-1] == "  no answer"


def test_what_a_run_has_drawn_is_told_where() -> None:
    assert lines({}, loss=None, loss_floor=None, steps=0, results={"reason": "done", "plot": "d/run_1.png"})[-1] == (
        "  drawn in d/run_1.png"
    )
