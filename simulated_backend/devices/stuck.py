"""A device that no longer answers: whatever law it followed, it is a fixed conductance now."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, final

import numpy as np

from hil.core.types import FloatArray
from simulated_backend.devices.base import Device, EdgeDrive, Parameter, Parameters
from simulated_backend.spice_form import SpiceDrive, SpiceModel, number


@final
class Stuck(Device):
    """I = G V with G the parameter ``stuck_conductance``; the parameters of the law it followed may be set without effect.

    Options: ``law``, ``law_preset`` and ``law_options`` of that law.
    """

    name: ClassVar[str] = "stuck"
    source: ClassVar[str] = "Ohm's law"
    parameters: ClassVar[Mapping[str, Parameter]] = {
        "stuck_conductance": Parameter("S", None, 1e-30, 1e12, "conductance at which the device is stuck"),
    }
    options: ClassVar[Mapping[str, tuple[object, ...]]] = {"law": (), "law_preset": (), "law_options": ()}

    def __init__(
        self, law: str = "ohmic", law_preset: str | None = None, law_options: Mapping[str, object] | None = None
    ) -> None:
        # the registry imports the laws, not the laws the registry: only this one asks for another
        from simulated_backend.devices import registry

        self.law, self.law_preset, self.law_options = law, law_preset, dict(law_options or {})
        self._inner = registry.law(law, law_preset, **self.law_options)
        # an instance of its own: which parameters there are depends on the law it followed
        vars(self)["parameters"] = {**self._inner.parameters, **Stuck.parameters}

    def default(self, name: str) -> float | None:
        """The default of the law it followed."""
        return None if name == "stuck_conductance" else self._inner.default(name)

    def current(self, parameters: Parameters, drive: EdgeDrive, state: FloatArray) -> FloatArray:
        """G V."""
        return np.asarray(parameters["stuck_conductance"] * drive.voltage)

    def conductance(self, parameters: Parameters, drive: EdgeDrive, state: FloatArray) -> FloatArray:
        """G."""
        return np.asarray(parameters["stuck_conductance"] * np.ones_like(drive.voltage))

    def tunables(self) -> Mapping[str, str]:
        """Those of the law it followed."""
        return self._inner.tunables()

    def tuned(self, parameters: Parameters, name: str, values: FloatArray) -> Parameters:
        """As the law it followed: the numbers change, the current does not."""
        return self._inner.tuned(parameters, name, values)

    def spice(self, parameters: Mapping[str, float], drive: SpiceDrive, nodes: Sequence[str]) -> SpiceModel:
        """G V."""
        return SpiceModel(f"{number(parameters['stuck_conductance'])}*({drive.voltage})")
