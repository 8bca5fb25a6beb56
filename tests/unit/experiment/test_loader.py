"""YAML to models: every mistake is one sentence with file, line, field and remedy."""

from pathlib import Path
from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from hil.core.errors import ConfigError
from hil.experiment.fields import FieldError, Given, Name, Strict, Volts, choice, quantity, span, unknown
from hil.experiment.loader import apply_overrides, find, read


class Inner(Strict):
    voltage: Volts
    steps: int = 3


class Outer(Strict):
    title: str
    inner: Inner
    window: Annotated[tuple[float, float], span("m")] | None = None
    kind: Annotated[str, choice("base", "tip")] = "base"
    rate: Annotated[float, quantity("1", above=0.0, maximum=10.0)] = 1.0
    names: dict[Name, Name] = Field(default_factory=dict)


GOOD = "title: t\ninner:\n  voltage: 5 mV\n"


def document(folder: Path, text: str = GOOD):
    path = folder / "file.yaml"
    path.write_text(text, encoding="utf-8")
    return read(path)


def message(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        document(folder, text).model(Outer)
    return str(caught.value)


def test_quantities_become_si(tmp_path: Path) -> None:
    model = document(tmp_path, GOOD + "window: [2 um, 100 um]\nnames: {1: 2}\n").model(Outer)
    assert model.inner.voltage == 5e-3
    assert model.window == (2e-6, 1e-4)
    assert model.names == {"1": "2"}


@pytest.mark.parametrize(
    ("text", "line", "field", "remedy"),
    [
        ("title: t\ninner:\n  voltage: 1 V\n  stesp: 2\n", 4, "inner.stesp", "did you mean 'steps'?"),
        ("title: t\ninner: {voltage: 1 A}\n", 2, "inner.voltage", "a quantity in V is needed"),
        ("title: t\ninner: {voltage: 1}\n", 2, "inner.voltage", "write for example '1 V'"),
        ("title: t\ninner: {voltage: .nan}\n", 2, "inner.voltage", "not a finite number"),
        ("title: t\ninner: {voltage: nan V}\n", 2, "inner.voltage", "not a finite number"),
        ("title: t\ninner: {voltage: .inf}\n", 2, "inner.voltage", "not a finite number"),
        ("title: t\ninner: {voltage: 1 V, steps: 1.5}\n", 2, "inner.steps", "valid integer, not 1.5"),
        ("title: t\ninner: {voltage: 1 V, steps: '4'}\n", 2, "inner.steps", "valid integer, not '4'"),
        ("title: t\ninner: {voltage: 1 V}\nwindow: [3 um, 2 um]\n", 3, "window", "the first value must be below the second"),
        ("title: t\ninner: {voltage: 1 V}\nwindow: 3 um\n", 3, "window", "write for example '[0 m, 1 m]'"),
        ("title: t\ninner: {voltage: 1 V}\nkind: bsae\n", 3, "kind", "did you mean 'base'?"),
        ("title: t\ninner: {voltage: 1 V}\nrate: 11\n", 3, "rate", "is above 10"),
        ("title: t\ninner: {voltage: 1 V}\nrate: 0\n", 3, "rate", "must be above 0"),
        ("title: t\n", 1, "inner", "required; add it"),
        ("title: t\ninner: {voltage: 1 V, steps: yes}\n", 2, "inner.steps", "valid integer"),
    ],
)
def test_an_error_names_file_line_field_and_remedy(tmp_path: Path, text: str, line: int, field: str, remedy: str) -> None:
    said = message(tmp_path, text)
    assert said.startswith(f"{tmp_path / 'file.yaml'}, line {line}: {field}: ")
    assert remedy in said
    assert "\n" not in said


def test_further_problems_are_counted_not_listed(tmp_path: Path) -> None:
    said = message(tmp_path, "title: 3\ninner: {voltage: 1 A}\nkind: x\n")
    assert said.endswith("(and 2 more problems in this file)")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("title: a\ninner: {}\ntitle: b\n", "line 3: title is given twice (first in line 1)"),
        ("title: [a\n", "not valid YAML"),
        ("title: &a t\ninner: *a\n", "anchors and aliases are not used"),
        ("title: !!python/object/apply:os.system [ls]\n", "tag"),
        ("title: !secret t\n", "tag '!secret' is not used"),
        ("- a\n", "a file of fields"),
        ("", "a file of fields"),
        ("? [a, b]\n: 1\n", "a key must be a plain name"),
        ("a: \x00\n", "not valid YAML"),
    ],
)
def test_files_that_are_no_files_of_fields(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=r"file\.yaml") as caught:
        document(tmp_path, text)
    assert said in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read(tmp_path / "absent.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"title: \xe9\n")
    with pytest.raises(ConfigError, match="UTF-8"):
        read(tmp_path / "latin.yaml")


def test_overrides_reach_both_files_and_aliases_shorten_them(tmp_path: Path) -> None:
    protocol = document(tmp_path, GOOD + "aliases: {mismatch: bench.virtual.plant.mismatch, v: inner.voltage}\n")
    later = apply_overrides(["v=2 V", "inner.steps=7", "mismatch=0.02", "bench.title=x", "bench=other.yaml"], protocol)
    assert later == ["bench.virtual.plant.mismatch=0.02", "bench.title=x"]
    assert protocol.data["inner"] == {"voltage": "2 V", "steps": 7}
    assert protocol.data["bench"] == "other.yaml"
    bench = document(tmp_path, "title: t\n")
    assert apply_overrides(later, protocol, bench) == []
    assert bench.data == {"title": "x", "virtual": {"plant": {"mismatch": 0.02}}}


def test_an_error_in_an_override_names_the_override(tmp_path: Path) -> None:
    one = document(tmp_path)
    apply_overrides(["inner.voltage=3 A"], one)
    with pytest.raises(ConfigError, match=r"^--set inner\.voltage=3 A: inner\.voltage: .* V is needed"):
        one.model(Outer)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("inner.voltage", "path=value"),
        ("=3", "path=value"),
        ("inner..x=3", "path=value"),
        ("title.x=3", "title is 't', not a section"),
        ("title=[", "not valid YAML"),
    ],
)
def test_overrides_that_make_no_sense(tmp_path: Path, setting: str, said: str) -> None:
    with pytest.raises(ConfigError, match="--set") as caught:
        apply_overrides([setting], document(tmp_path))
    assert said in str(caught.value)


def test_find_prefers_a_path_then_a_shipped_name(tmp_path: Path) -> None:
    shipped = tmp_path / "shipped"
    (shipped / "benches").mkdir(parents=True)
    for name in ("divider.yaml", "benches/one.yaml"):
        (shipped / name).write_text("")
    mine = tmp_path / "protocol.yaml"
    (tmp_path / "local.yaml").write_text("")
    assert find("divider", None, shipped, "protocol") == shipped / "divider.yaml"
    assert find("protocols/divider.yaml", None, shipped, "protocol") == shipped / "divider.yaml"
    assert find("local.yaml", mine, shipped / "benches", "bench file") == tmp_path / "local.yaml"
    assert find("benches/one.yaml", mine, shipped / "benches", "bench file") == shipped / "benches" / "one.yaml"
    with pytest.raises(ConfigError, match="did you mean 'divider'"):
        find("dividre", None, shipped, "protocol")


def test_given_is_checked_against_the_unit_of_its_channel() -> None:
    assert Given("5 mV").si("V", "apply.V1") == 5e-3
    with pytest.raises(FieldError, match="a quantity in Pa") as caught:
        Given("5 mV").si("Pa", "apply.V1")
    assert caught.value.field == "apply.V1"


def test_unknown_suggests_only_what_is_near() -> None:
    assert "did you mean 'length'" in unknown("weight", "lenght", ["length", "pressure"])
    assert "known: length, pressure" in unknown("weight", "zzz", ["length", "pressure"])


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused_cleanly(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    said = ""
    try:
        read(path).model(Outer)
    except ConfigError as error:
        said = str(error)
    assert "\n" not in said
