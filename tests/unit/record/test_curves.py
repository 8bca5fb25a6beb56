"""Curves and activations as files: what was written comes back, what is damaged is refused in a sentence."""

import json
from pathlib import Path

import numpy as np
import pytest

from hil.activation import make_activation
from hil.core.errors import ConfigError
from hil.learn.activation import Activation, Outside
from hil.learn.iv_curve import IVCurve
from hil.record.curves import (
    CurveFile,
    curve_path,
    import_csv,
    load_activation,
    load_curves,
    save_activation,
    save_curves,
)


def loop(points: int = 21, *, gap: float = 0.0) -> IVCurve:
    up = np.linspace(-1.0, 1.0, points)
    path = np.concatenate([up, up[-2::-1]])
    sign = np.concatenate([np.ones(points), -np.ones(points - 1)])
    return IVCurve.of(path, np.tanh(2 * path) + gap * sign * (1 - path**2), source="test", sweep_rate=0.1)


def written(folder: Path, curve: IVCurve, run: int = 3) -> Path:
    return save_curves(CurveFile({"dwell": curve}, {"dwell": curve}, {"sample": "x"}, {}), curve_path(folder, run))


def test_curves_come_back_point_by_point(tmp_path: Path) -> None:
    curve = loop(gap=0.1)
    curve.current[3] = np.nan
    curve.limited[5] = True
    back = load_curves(written(tmp_path, curve))
    for name in ("voltage", "current", "current_std", "branch", "cycle", "limited", "time"):
        np.testing.assert_array_equal(getattr(back.raw["dwell"], name), getattr(curve, name))
    assert back.provenance == {"sample": "x"}
    assert back.best().sweep_rate == 0.1
    with pytest.raises(ConfigError, match="no curve 'fast'; curves: dwell"):
        back.best("fast")


def test_an_activation_comes_back(tmp_path: Path) -> None:
    first = Activation(np.linspace(-1, 1, 7), np.linspace(-2, 2, 7), Outside.LINEAR, ("something",))
    back = load_activation(save_activation(first, tmp_path / "a.json", {"run": 1}))
    np.testing.assert_array_equal(back.current, first.current)
    assert (back.outside, back.repairs) == (Outside.LINEAR, ("something",))


@pytest.mark.parametrize("content", ["{", "[]", '{"format": "other/1"}', '{"format": "hil-iv-curve/1", "raw": 3}'])
def test_damaged_files_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"bad\.json"):
        load_curves(path)


def test_a_table_is_read_in_its_own_units(tmp_path: Path) -> None:
    path = tmp_path / "curve.csv"
    path.write_text(
        "# from elsewhere\nVoltage (mV);Current [nA];limited\n" + "".join(f"{v};{v * 2};0\n" for v in (0, 100, 200, 100))
    )
    curve = import_csv(path)
    np.testing.assert_allclose(curve.voltage, [0, 0.1, 0.2, 0.1])
    np.testing.assert_allclose(curve.current, [0, 200e-9, 400e-9, 200e-9])
    assert curve.branch.tolist() == ["up", "up", "up", "down"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("voltage,amps\n1,2\n", "no column 'current'"),
        ("voltage,current\n1,x\n", "point 1 has no number in column 2"),
        ("voltage (parsec),current\n1,2\n", "unit 'parsec'"),
        ("voltage,current\n", "at least one point"),
    ],
)
def test_bad_tables_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        import_csv(path)


def test_a_run_becomes_an_activation_with_a_picture(tmp_path: Path) -> None:
    written(tmp_path, loop(gap=0.05))
    made = make_activation("3", branch="up", data=tmp_path)
    assert made.figure.stat().st_size > 1000
    stored = json.loads(made.path.read_text())
    assert stored["provenance"]["branch"] == "up"
    np.testing.assert_allclose(made.activation(np.array([0.0])), [0.05], atol=2e-3)


def test_what_cannot_become_an_activation_says_why(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="run 9 has kept no I-V curve"):
        make_activation("9", data=tmp_path)
    one_way = loop().where(loop().branch == "up")
    written(tmp_path, one_way, 4)
    with pytest.raises(ConfigError, match="mean of both branches"):
        make_activation("4", data=tmp_path)
    cut = loop()
    cut.limited[np.abs(cut.voltage) > 0.05] = True
    written(tmp_path, cut, 5)
    with pytest.raises(ConfigError, match="at least 5"):
        make_activation("5", data=tmp_path)
    short = loop()
    short.limited[short.voltage > 0.5] = True
    written(tmp_path, short, 6)
    made = make_activation("6", data=tmp_path, outside="raise")
    assert any("in compliance left out" in line for line in made.lines)
    assert made.activation.range[1] == pytest.approx(0.5)
    with pytest.raises(ConfigError, match="outside 'hope'"):
        make_activation("6", data=tmp_path, outside="hope")
