"""A measured current-voltage curve as a device."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import ClassVar, final

import numpy as np

from hil.core.errors import ConfigError
from hil.core.types import FloatArray
from simulated_backend.devices.base import Device, EdgeDrive, Parameter, Parameters
from simulated_backend.devices.bounded import named_edges
from simulated_backend.spice_form import SpiceDrive, SpiceModel, choose, number

OUTSIDE: tuple[str, ...] = ("linear", "clip")


@final
class Tabulated(Device):
    """I(V) through measured points, by a cubic spline that is monotone wherever the points are.

    Options: ``volts`` (n,) in V, ascending, and ``amperes`` (n,) in A, n ≥ 2; ``outside``: "linear" goes on with the
    slope of the first or last point, "clip" with its current. Either is reported by ``validity``. Without a table
    the law is I = V · 1 S.
    """

    name: ClassVar[str] = "tabulated"
    source: ClassVar[str] = "Fritsch & Butland, SIAM J. Sci. Stat. Comput. 5, 300 (1984): monotone piecewise cubic interpolation"
    parameters: ClassVar[Mapping[str, Parameter]] = {
        "scale": Parameter("1", 1.0, 1e-30, 1e30, "factor of the tabulated current"),
    }
    options: ClassVar[Mapping[str, tuple[object, ...]]] = {"volts": (), "amperes": (), "outside": OUTSIDE}
    """Empty: any list of numbers."""

    def __init__(
        self,
        volts: Sequence[float] = (-1.0, 1.0),
        amperes: Sequence[float] = (-1.0, 1.0),
        outside: str = "linear",
    ) -> None:
        from scipy.interpolate import PchipInterpolator  # every virtual bench would wait for it, and few need it

        v, i = np.array(volts, dtype=np.float64), np.array(amperes, dtype=np.float64)
        if outside not in OUTSIDE:
            raise ConfigError(f"law {self.name!r}: outside {outside!r} is unknown; choose one of {', '.join(OUTSIDE)}")
        if v.ndim != 1 or v.shape != i.shape or v.size < 2:
            raise ConfigError(
                f"law {self.name!r}: volts and amperes must be two lists of equal length with at least 2 points, not "
                f"{v.size} and {i.size}"
            )
        if not (np.isfinite(v).all() and np.isfinite(i).all()):
            raise ConfigError(f"law {self.name!r}: the table holds values that are not finite; remove those points")
        if np.any(np.diff(v) <= 0.0):
            at = int(np.argmax(np.diff(v) <= 0.0))
            raise ConfigError(
                f"law {self.name!r}: the voltages must ascend, but {v[at + 1]:g} V follows {v[at]:g} V; "
                "give one branch of the curve, without repeats"
            )
        # tuples of floats, so that the options can be written to JSON and compared
        self.volts = tuple(v.tolist())
        self.amperes = tuple(i.tolist())
        self.outside = outside
        self._spline = PchipInterpolator(v, i, extrapolate=False)
        self._slope = self._spline.derivative()

    def current(self, parameters: Parameters, drive: EdgeDrive, state: FloatArray) -> FloatArray:
        """The spline, continued as declared."""
        v = np.asarray(drive.voltage, dtype=np.float64)
        inside = np.clip(v, self.volts[0], self.volts[-1])
        value: FloatArray = self._spline(inside)
        if self.outside == "linear":
            value = value + self._slope(inside) * (v - inside)
        return parameters["scale"] * value

    def conductance(self, parameters: Parameters, drive: EdgeDrive, state: FloatArray) -> FloatArray:
        """The slope of what ``current`` returns."""
        v = np.asarray(drive.voltage, dtype=np.float64)
        inside = np.clip(v, self.volts[0], self.volts[-1])
        slope: FloatArray = self._slope(inside)
        if self.outside == "clip":
            slope = np.where(v == inside, slope, 0.0)
        return parameters["scale"] * slope

    def validity(self, parameters: Parameters, drive: EdgeDrive) -> Sequence[str]:
        """Where the table ends."""
        out = (drive.voltage < self.volts[0]) | (drive.voltage > self.volts[-1])
        if np.any(out):
            how = "continued in a straight line" if self.outside == "linear" else "held at its last current"
            return (
                f"tabulated: {named_edges(out)} lie outside the measured {self.volts[0]:g} … {self.volts[-1]:g} V; the "
                f"curve is {how} there",
            )
        return ()

    def spice(self, parameters: Mapping[str, float], drive: SpiceDrive, nodes: Sequence[str]) -> SpiceModel:
        """The same cubics, chosen by nested conditions."""
        v = f"({drive.voltage})"
        first, last = self.volts[0], self.volts[-1]
        ends = [float(self._slope(end)) if self.outside == "linear" else 0.0 for end in (first, last)]
        pieces = [f"{number(self.amperes[0])}+{number(ends[0])}*({v}-{number(first)})"]
        for k, (left, _) in enumerate(pairwise(self.volts)):
            c3, c2, c1, c0 = (number(c) for c in self._spline.c[:, k])
            u = f"({v}-{number(left)})"
            pieces.append(f"{c0}+{u}*({c1}+{u}*({c2}+{u}*{c3}))")
        pieces.append(f"{number(self.amperes[-1])}+{number(ends[1])}*({v}-{number(last)})")
        return SpiceModel(f"{number(parameters['scale'])}*{choose(v, self.volts, pieces)}")
