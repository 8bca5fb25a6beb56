"""Flux-linkage-controlled memristor that remembers."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, final

import numpy as np

from hil.core.types import FloatArray
from simulated_backend.devices import flux_controlled as flux
from simulated_backend.devices.base import EdgeDrive, Parameter, Parameters
from simulated_backend.devices.bounded import held_at_bounds
from simulated_backend.spice_form import SpiceDrive, SpiceModel, SpiceState, held, number


@final
class FluxNonvolatile(flux.FluxControlled):
    """dΦ/dt = 0 where 0 ≤ A v ≤ D Φ, else A v - D Φ; Φ ≥ 0; i = v/M(Φ). State: the flux linkage Φ in V s.

    A positive voltage raises Φ to A V/D and no further; a negative one lowers it, faster than it was raised; none keeps
    it. The paper prints the condition as 0 < A v/D: an unbiased device would then decay, and D = 0 divide by zero.
    """

    name: ClassVar[str] = "flux_nonvolatile"
    source: ClassVar[str] = "Zivasatienraj & Doolittle, Front. Neurosci. 17, 1153183 (2023), eqs. (2) and (4), corrected"
    parameters: ClassVar[Mapping[str, Parameter]] = {
        **flux.PARAMETERS,
        "flux_initial": Parameter("V*s", 0.0, 0.0, 1e6, "flux linkage before anything was applied"),
    }
    presets: ClassVar[Mapping[str, Mapping[str, float]]] = {
        "desensitisation": flux.DESENSITISATION,
        # a starting level that is not from the paper
        "spike-timing": {**flux.DESENSITISATION, "flux_initial": 1e-3},
        "paired-input-layer": {"flux_gain": 1.0, "flux_decay": 20.0, "R0": 100.0, "R1": 1e6},
    }

    def state_rate(self, parameters: Parameters, drive: EdgeDrive, state: FloatArray) -> FloatArray:
        """A v - D Φ in V, but 0 where 0 ≤ A v ≤ D Φ and at the lower stop Φ = 0."""
        push = parameters["flux_gain"] * drive.voltage
        pull = parameters["flux_decay"] * state[0]
        rate = np.where((push >= 0.0) & (push <= pull), 0.0, push - pull)
        return held_at_bounds(rate, state[0], 0.0, np.inf)[np.newaxis]

    def decay(self, parameters: Parameters, state: FloatArray, duration: float) -> FloatArray:
        """Without voltage nothing changes."""
        return state

    def clip(self, parameters: Parameters, state: FloatArray) -> FloatArray:
        """Φ ≥ 0."""
        return np.maximum(state, 0.0)

    def spice(self, parameters: Mapping[str, float], drive: SpiceDrive, nodes: Sequence[str]) -> SpiceModel:
        """The same as SPICE expressions."""
        scale = flux.spice_scale(parameters)
        push = f"({number(parameters['flux_gain'] / scale)}*({drive.voltage}))"
        level = f"max({nodes[0]},0)"
        pull = f"({number(parameters['flux_decay'])}*{level})"
        rate = held(f"({push}>=0 && {push}<={pull} ? 0 : {push}-{pull})", nodes[0], 0.0, None)
        current = f"({drive.voltage})/{flux.spice_memristance(parameters, f'({number(scale)}*{level})')}"
        return SpiceModel(current, (SpiceState(rate, scale),))
