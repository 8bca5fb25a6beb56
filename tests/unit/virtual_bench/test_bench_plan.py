"""The plan of a virtual bench: JSON there and back, and what it refuses."""

import json
from typing import Any

import pytest

from hil.core.errors import ConfigError
from simulated_backend.virtual_bench.plan import BenchPlan, InstrumentPlan, PlanError, Wire, about


def plan(**changes: Any) -> BenchPlan:
    fields: dict[str, Any] = {
        "instruments": (InstrumentPlan("smu", "Keithley2602B", {"line_frequency": 60.0}), InstrumentPlan("m", "KeithleyDAQ6510")),
        "wires": (Wire("smu", "smua", "1"), Wire("m", "", "2")),
        "network": {"nodes": [], "laws": [], "edges": []},
        "seed": 7,
        "ideal": True,
    }
    return BenchPlan(**{**fields, **changes})


def test_a_plan_survives_json() -> None:
    assert BenchPlan.from_json(plan().to_json()) == plan()
    assert "\n" not in plan().to_json()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"instruments": (InstrumentPlan("m", "A"), InstrumentPlan("m", "B"))}, "instrument 'm' stands twice"),
        ({"wires": (Wire("x", "", "1"),)}, "begins at 'x', which is no instrument"),
        ({"wires": (Wire("m", "", "1"), Wire("m", "", "2"))}, "is wired to the nodes '1' and '2'"),
    ],
)
def test_contradictions_are_refused(changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        plan(**changes)


@pytest.mark.parametrize("text", ["", "[]", "{}", "nonsense", '{"instruments": [], "wires": [], "network": {}, "extra": 1}'])
def test_other_text_is_no_plan(text: str) -> None:
    with pytest.raises(ConfigError, match="no plan of a virtual bench"):
        BenchPlan.from_json(text)


def test_a_missing_field_is_named() -> None:
    fields = json.loads(plan().to_json())
    del fields["network"]
    with pytest.raises(ConfigError, match="network"):
        BenchPlan.from_json(json.dumps(fields))


def test_what_is_wrong_about_an_instrument_says_which_and_at_which_port() -> None:
    with pytest.raises(PlanError) as caught:
        plan(wires=(Wire("m", "", "1"), Wire("m", "", "2")))
    assert (caught.value.instrument, caught.value.port) == ("m", "")
    with pytest.raises(PlanError, match="no such option") as caught, about("smu"):
        raise ConfigError("no such option")
    assert (caught.value.instrument, caught.value.port) == ("smu", None)
    with pytest.raises(PlanError) as caught, about("smu"):
        raise PlanError("two outlets", "pace", "a")
    assert (caught.value.instrument, caught.value.port) == ("pace", "a")
