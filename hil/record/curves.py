"""I-V curves and activations as files: with where they come from, so that a curve can be trusted years later."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hil.core.errors import ConfigError
from hil.core.types import FloatArray
from hil.learn.activation import Activation, Outside
from hil.learn.iv_curve import IVCurve

CURVE_FORMAT, ACTIVATION_FORMAT = "hil-iv-curve/1", "hil-activation/1"
FOLDER = "iv_curves"


@dataclass(frozen=True)
class CurveFile:
    """Curves of one run, raw and corrected (name -> curve, one per sweep rate), with their provenance and figures."""

    raw: Mapping[str, IVCurve]
    corrected: Mapping[str, IVCurve]
    provenance: Mapping[str, object] = field(default_factory=dict)
    figures: Mapping[str, object] = field(default_factory=dict)

    def best(self, rate: str | None = None) -> IVCurve:
        """The corrected curve of ``rate`` (a name), by default of the slowest; ConfigError names the rates there are."""
        if not self.corrected:
            raise ConfigError("the file holds no curve")
        if rate is None:
            return min(self.corrected.values(), key=lambda curve: np.nan_to_num(curve.sweep_rate, nan=np.inf))
        if rate not in self.corrected:
            raise ConfigError(f"there is no curve {rate!r}; curves: {', '.join(self.corrected)}")
        return self.corrected[rate]


def curve_path(folder: Path, run_id: int | None) -> Path:
    """Where the curves of a run are kept below the data folder."""
    return folder / FOLDER / f"run_{'unrecorded' if run_id is None else run_id}.json"


def save_curves(file: CurveFile, path: Path) -> Path:
    """Write as JSON (NaN as null); returns the path. ConfigError when it cannot be written."""
    content = {
        "format": CURVE_FORMAT,
        "units": {"voltage": "V", "current": "A", "current_std": "A", "time": "s", "sweep_rate": "V/s"},
        "provenance": dict(file.provenance),
        "figures": dict(file.figures),
        "raw": {name: _plain(curve) for name, curve in file.raw.items()},
        "corrected": {name: _plain(curve) for name, curve in file.corrected.items()},
    }
    return _write(content, path)


def load_curves(path: Path) -> CurveFile:
    """Inverse of ``save_curves``; a ``.csv`` file is imported. ConfigError where the file is no such file."""
    if path.suffix.lower() == ".csv":
        curve = import_csv(path)
        return CurveFile({"csv": curve}, {"csv": curve}, {"file": str(path)})
    content = _read(path, CURVE_FORMAT)
    try:
        parts = [{name: _curve(one) for name, one in content[kind].items()} for kind in ("raw", "corrected")]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"{path}: the curves in this file are damaged ({error})") from error
    return CurveFile(parts[0], parts[1], content.get("provenance", {}), content.get("figures", {}))


def import_csv(path: Path) -> IVCurve:
    """A curve from a table with a head line: columns ``voltage`` (V), ``current`` (A), if wanted ``current_std`` and ``limited``.

    Heads may carry a unit behind a blank or in brackets (V, mV, A, mA, uA, nA, pA: converted); ``V`` and ``I`` will do as
    names. Points stay in the order of the file, which tells the branches. Raises ConfigError naming line and column.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            sample = file.read(4096)
            file.seek(0)
            delimiter = ";" if sample.count(";") > sample.count(",") else ("\t" if "\t" in sample else ",")
            rows = [row for row in csv.reader(file, delimiter=delimiter) if row and not row[0].lstrip().startswith("#")]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: the file cannot be read ({error})") from error
    if len(rows) < 2:
        raise ConfigError(f"{path}: a head line and at least one point are needed")
    columns = {}
    for position, head in enumerate(rows[0]):
        name, factor = _column(head)
        if name:
            columns[name] = (position, factor)
    for needed in ("voltage", "current"):
        if needed not in columns:
            raise ConfigError(f"{path}: there is no column {needed!r}; columns: {', '.join(rows[0])}")
    values = {name: _numbers(rows[1:], position, path) * factor for name, (position, factor) in columns.items()}
    curve = IVCurve.of(values["voltage"], values["current"], values.get("current_std"), source=path.name)
    limited = values.get("limited")
    if limited is None:
        return curve
    return IVCurve(
        curve.voltage, curve.current, curve.current_std, curve.branch, curve.cycle, limited != 0, curve.time, source=curve.source
    )


_HEADS = {
    "voltage": "voltage", "v": "voltage", "volt": "voltage", "current": "current", "i": "current", "curr": "current",
    "current_std": "current_std", "std": "current_std", "limited": "limited", "compliance": "limited",
}  # fmt: skip
_FACTORS = {"": 1.0, "v": 1.0, "mv": 1e-3, "a": 1.0, "ma": 1e-3, "ua": 1e-6, "µa": 1e-6, "na": 1e-9, "pa": 1e-12}


def _column(head: str) -> tuple[str, float]:
    text = head.strip().lower().replace("[", " ").replace("(", " ").replace("/", " ").rstrip("])")
    name, _, unit = text.partition(" ")
    found = _HEADS.get(name.strip())
    if found is None:
        return "", 1.0
    if unit.strip() not in _FACTORS:
        raise ConfigError(
            f"column {head!r}: the unit {unit.strip()!r} is not known; use one of {', '.join(filter(None, _FACTORS))}"
        )
    return found, _FACTORS[unit.strip()]


def _numbers(rows: Sequence[Sequence[str]], column: int, path: Path) -> FloatArray:
    numbers = np.empty(len(rows))
    for position, row in enumerate(rows):
        try:
            numbers[position] = float(row[column])
        except (ValueError, IndexError):
            raise ConfigError(f"{path}: point {position + 1} has no number in column {column + 1}") from None
    return numbers


def save_activation(activation: Activation, path: Path, provenance: Mapping[str, object]) -> Path:
    """Write an activation: its points, what it does outside, what was repaired, where it comes from."""
    content = {
        "format": ACTIVATION_FORMAT,
        "units": {"voltage": "V", "current": "A"},
        "outside": activation.outside.value,
        "repairs": list(activation.repairs),
        "provenance": dict(provenance),
        "voltage": activation.voltage.tolist(),
        "current": activation.current.tolist(),
    }
    return _write(content, path)


def load_activation(path: Path) -> Activation:
    """Inverse of ``save_activation``. ConfigError where the file is no such file."""
    content = _read(path, ACTIVATION_FORMAT)
    try:
        return Activation(
            np.array(content["voltage"], dtype=np.float64),
            np.array(content["current"], dtype=np.float64),
            Outside(content["outside"]),
            tuple(content["repairs"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path}: the activation in this file is damaged ({error})") from error


def _write(content: Mapping[str, object], path: Path) -> Path:
    from hil.record.recorder import plain

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(plain(content), indent=1, allow_nan=False), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error}); choose another folder with --data DIR") from error
    return path


def _read(path: Path, form: str) -> Any:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ConfigError(f"{path} cannot be read ({error})") from error
    if not isinstance(content, dict) or content.get("format") != form:
        raise ConfigError(f"{path} is no {form} file")
    return content


def _plain(curve: IVCurve) -> dict[str, object]:
    return {
        "voltage": curve.voltage.tolist(),
        "current": curve.current.tolist(),
        "current_std": curve.current_std.tolist(),
        "branch": curve.branch.tolist(),
        "cycle": curve.cycle.tolist(),
        "limited": curve.limited.tolist(),
        "time": curve.time.tolist(),
        "sweep_rate": curve.sweep_rate,
        "source": curve.source,
        "repairs": list(curve.repairs),
    }


def _curve(one: Mapping[str, Any]) -> IVCurve:
    def numbers(name: str) -> FloatArray:
        return np.array([np.nan if value is None else value for value in one[name]], dtype=np.float64)

    rate = one["sweep_rate"]
    return IVCurve(
        numbers("voltage"),
        numbers("current"),
        numbers("current_std"),
        np.array(one["branch"], dtype=np.str_),
        np.array(one["cycle"], dtype=np.intp),
        np.array(one["limited"], dtype=np.bool_),
        numbers("time"),
        np.nan if rate is None else float(rate),
        str(one["source"]),
        tuple(one["repairs"]),
    )
