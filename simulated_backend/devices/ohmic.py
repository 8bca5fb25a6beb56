"""Linear resistor: I = GV."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from hil.core.types import FloatArray
from simulated_backend.devices.base import Device, EdgeDrive, Parameter, Parameters


class Ohmic(Device):
    """A conductance that nothing changes: wires, loads, and the linear limit of every other law."""

    name = "ohmic"
    source = "Ohm's law"
    parameters: ClassVar[Mapping[str, Parameter]] = {
        "conductance": Parameter("S", None, 1e-30, 1e12, "conductance of one device, G"),
    }

    def current(self, parameters: Parameters, drive: EdgeDrive, state: FloatArray) -> FloatArray:
        """I = GV, A."""
        return np.asarray(parameters["conductance"] * drive.voltage)

    def conductance(self, parameters: Parameters, drive: EdgeDrive, state: FloatArray) -> FloatArray:
        """dI/dV = G, S."""
        return np.asarray(parameters["conductance"] + np.zeros_like(drive.voltage))
