"""Conical electrolyte channel: an ion-depleting and ion-accumulating diode with memory.

Source: Kamsma, Boon, ter Rele, Spitoni, van Roij, Phys. Rev. Lett. 130, 268401 (2023), eqs. (1)-(5), with pressure as in
Boon et al., Phys. Fluids 34 (2022), and networks of such channels as in Conte, van Roij, Dijkstra, arXiv:2511.04209.
Departures from the printed text: the minus sign of the electro-osmotic flow is restored (Q_V = −πR_bR_tεψ0ΔV/(ηL)),
and averages over the length are taken by quadrature. Every drop is base minus tip. ``docs/physics.md`` has the derivation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hil.core.errors import ConfigError
from hil.core.types import BoolArray, FloatArray
from simulated_backend.devices import conical_profile, conical_self_consistent
from simulated_backend.devices.base import Device, EdgeDrive, Parameter, Parameters, StateKind

_ELEMENTARY_CHARGE = 1.602176634e-19
_BOLTZMANN = 1.380649e-23
_AVOGADRO = 6.02214076e23
_GOOD_TO = 0.26
"""|κh| at 0.5 V and 0.2 mM, up to where the uniform-field theory is within about 5 % of the self-consistent one."""

_LETTER = {
    "base_radius": 200e-9,
    "tip_radius": 50e-9,
    "length": 10e-6,
    "diffusion": 1.75e-9,
    "viscosity": 1.01e-3,
    "permittivity": 0.71e-9,
    "temperature": 293.15,
    "surface_charge": -1.5e15,
    "surface_potential": -10.25e-3,
    "reference_concentration": 0.1,
    "minimum_conductance": 0.02,
    "elementary_charge": _ELEMENTARY_CHARGE,
    "boltzmann": _BOLTZMANN,
    "avogadro": _AVOGADRO,
}
_NETWORK = {**_LETTER, "reference_concentration": 0.2, "surface_potential": -7.27e-3}
_PUBLISHED_CODE = {
    **_NETWORK,
    "surface_potential": -10e-3,
    "minimum_conductance": 0.0,
    "elementary_charge": 1.602e-19,
    "boltzmann": 1.38e-23,
    "avogadro": 6.022e23,
}


@dataclass(frozen=True, slots=True)
class Reduced:
    """The law in reduced numbers, (..., n_edges) each: all that its conductance depends on.

    g0 (S) base-side conductance, p_per_volt (1/V), p_pressure (1), kappa_per_volt (1/V), ratio R_b/R_t,
    salt_drop Δρ/ρ_b (0 where the explicit term is off), floor of g/g0 (−inf where there is none).
    """

    g0: FloatArray
    p_per_volt: FloatArray
    p_pressure: FloatArray
    kappa_per_volt: FloatArray
    ratio: FloatArray
    salt_drop: FloatArray
    floor: FloatArray


class ConicalChannel(Device):
    """dg/dt = (g∞(ΔV, ΔP, Δρ) − g)/τ, I = gΔV, τ = L²/12D; the state is g in S of a single channel.

    g∞/g0 = 1 − (Δρ/ρ_b)<I>(p) + κ<φ>(p), with p = −εψ0ΔV/(ηD) + R_b²R_t²ΔP/(8ηD<R²>), κ = σΔR eΔV/(ρ_b R_b R_t kT) and
    g0 = (πR_bR_t/L)·2ρ_b e²D/kT.

    ``preset``: "network" (0.2 mM), "letter" (0.1 mM), or "published-code" (the constants of the published network code,
    ψ0 = −10 mV, no floor, without the explicit concentration term).
    ``explicit_concentration_term``: whether −(Δρ/ρ_b)<I> is kept; None leaves it to the preset.
    ``surface_potential_policy``: "initial" keeps ψ0 at the Gouy-Chapman value for σ at ``reference_concentration``, "base"
    recomputes it from the concentration at the base, "fixed" takes ``surface_potential``; None leaves it to the preset.
    ``form``: "analytic" is the published law; "self-consistent" solves for the salt profile in its own field, which keeps
    the salt above zero and holds at high voltage (slower).
    """

    name = "conical_channel"
    source = "Kamsma et al., PRL 130, 268401 (2023), eqs. (1)-(5); Conte, van Roij, Dijkstra, arXiv:2511.04209"
    parameters: ClassVar[Mapping[str, Parameter]] = {
        "length": Parameter("m", 10e-6, 1e-9, 1.0, "length of the channel, L"),
        "base_radius": Parameter("m", 200e-9, 1e-10, 1e-3, "radius at the base, R_b"),
        "tip_radius": Parameter("m", 50e-9, 1e-10, 1e-3, "radius at the tip, R_t"),
        "diffusion": Parameter("m^2/s", 1.75e-9, 1e-14, 1e-6, "diffusion coefficient of either ion, D"),
        "viscosity": Parameter("Pa*s", 1.01e-3, 1e-6, 1e3, "viscosity of the electrolyte, η"),
        "permittivity": Parameter("F/m", 0.71e-9, 1e-12, 1e-7, "permittivity of the electrolyte, ε"),
        "temperature": Parameter("K", 293.15, 200.0, 500.0, "temperature, T"),
        "surface_charge": Parameter("m^-2", -1.5e15, -1e20, 1e20, "signed number of charges per wall area, σ"),
        "surface_potential": Parameter("V", -7.27e-3, -1.0, 1.0, "ψ0, used by the policy `fixed` only"),
        "reference_concentration": Parameter("mol/m^3", 0.2, 1e-9, 1e4, "concentration that ψ0 of policy `initial` is for"),
        "minimum_conductance": Parameter("1", 0.02, 0.0, 1.0, "floor of g∞/g0; 0 switches it off"),
        "elementary_charge": Parameter("C", _ELEMENTARY_CHARGE, 1.6e-19, 1.61e-19, "e"),
        "boltzmann": Parameter("J/K", _BOLTZMANN, 1.37e-23, 1.39e-23, "k"),
        "avogadro": Parameter("1/mol", _AVOGADRO, 6.0e23, 6.1e23, "N_A"),
    }
    presets: ClassVar[Mapping[str, Mapping[str, float]]] = {
        "network": _NETWORK,
        "letter": _LETTER,
        "published-code": _PUBLISHED_CODE,
    }
    options: ClassVar[Mapping[str, tuple[object, ...]]] = {
        "preset": ("network", "letter", "published-code"),
        "explicit_concentration_term": (None, True, False),
        "surface_potential_policy": (None, "initial", "base", "fixed"),
        "form": ("analytic", "self-consistent"),
    }
    kind = StateKind.RELAXATION
    states = ("conductance",)

    def __init__(
        self,
        preset: str = "network",
        explicit_concentration_term: bool | None = None,
        surface_potential_policy: str | None = None,
        form: str = "analytic",
    ) -> None:
        given = {
            "preset": preset,
            "explicit_concentration_term": explicit_concentration_term,
            "surface_potential_policy": surface_potential_policy,
            "form": form,
        }
        for option, value in given.items():
            if value not in self.options[option]:
                allowed = ", ".join(str(choice) for choice in self.options[option] if choice is not None)
                raise ConfigError(f"law 'conical_channel': {option} = {value!r} is not one of {allowed}")
        published = preset == "published-code"
        self.preset = preset
        self.explicit_concentration_term = not published if explicit_concentration_term is None else explicit_concentration_term
        self.surface_potential_policy = surface_potential_policy or ("fixed" if published else "initial")
        self.form = form

    # -- the law --------------------------------------------------------------------------------------------------

    def zeta(self, parameters: Parameters, drive: EdgeDrive) -> FloatArray:
        """Surface potential ψ0 in V after the policy (Grahame): (2kT/e) asinh(2πλ_Dλ_Bσ)."""
        if self.surface_potential_policy == "fixed":
            return parameters["surface_potential"]
        salt = parameters["reference_concentration"] if self.surface_potential_policy == "initial" else drive.concentration_base
        density = parameters["avogadro"] * salt
        e, epsilon = parameters["elementary_charge"], parameters["permittivity"]
        thermal = parameters["boltzmann"] * parameters["temperature"]
        debye = np.sqrt(epsilon * thermal / (2.0 * e * e * density))
        bjerrum = e * e / (4.0 * np.pi * epsilon * thermal)
        return np.asarray(2.0 * thermal / e * np.arcsinh(2.0 * np.pi * debye * bjerrum * parameters["surface_charge"]))

    def reduced(self, parameters: Parameters, drive: EdgeDrive) -> Reduced:
        """The reduced numbers of every edge; ``drive.voltage`` is not used."""
        Rb, Rt, L, D = (parameters[key] for key in ("base_radius", "tip_radius", "length", "diffusion"))
        e, eta = parameters["elementary_charge"], parameters["viscosity"]
        thermal = parameters["boltzmann"] * parameters["temperature"]
        density = parameters["avogadro"] * drive.concentration_base
        mean_square = (Rb * Rb + Rb * Rt + Rt * Rt) / 3.0
        drop = (drive.concentration_base - drive.concentration_tip) / drive.concentration_base
        floor = parameters["minimum_conductance"]
        return Reduced(
            np.pi * Rb * Rt / L * 2.0 * density * e * e * D / thermal,
            -parameters["permittivity"] * self.zeta(parameters, drive) / (eta * D),
            (Rb * Rt) ** 2 * drive.pressure_difference / (8.0 * eta * D * mean_square),
            parameters["surface_charge"] * (Rb - Rt) * e / (density * Rb * Rt * thermal),
            np.asarray(Rb / Rt),
            drop if self.explicit_concentration_term else np.zeros_like(drop),
            np.where(floor > 0.0, floor, -np.inf),
        )

    def relative(self, parameters: Parameters, drive: EdgeDrive) -> tuple[FloatArray, FloatArray, Reduced]:
        """g∞/g0 before any floor, its slope by the voltage (1/V), and the reduced numbers."""
        law = self.reduced(parameters, drive)
        p = law.p_per_volt * drive.voltage + law.p_pressure
        kappa = law.kappa_per_volt * drive.voltage
        if self.form == "self-consistent":
            level, by_p, by_kappa = conical_self_consistent.conductance(p, kappa, law.ratio, 1.0 - law.salt_drop)
            return level, by_p * law.p_per_volt + by_kappa * law.kappa_per_volt, law
        mean = conical_profile.averages(p, law.ratio)
        level = 1.0 - law.salt_drop * mean.mean_i + kappa * mean.h
        slope = (kappa * mean.h_slope - law.salt_drop * mean.mean_i_slope) * law.p_per_volt + law.kappa_per_volt * mean.h
        return level, slope, law

    def _level(self, parameters: Parameters, drive: EdgeDrive) -> tuple[FloatArray, Reduced]:
        """``relative`` without the slope: what a network in time asks for at every step."""
        if self.form == "self-consistent":
            level, _, law = self.relative(parameters, drive)
            return level, law
        law = self.reduced(parameters, drive)
        mean_i, h = conical_profile.means(law.p_per_volt * drive.voltage + law.p_pressure, law.ratio)
        return 1.0 - law.salt_drop * mean_i + law.kappa_per_volt * drive.voltage * h, law

    def current(self, parameters: Parameters, drive: EdgeDrive, state: FloatArray) -> FloatArray:
        """I = gΔV, A."""
        return np.asarray(state[0] * drive.voltage)

    def conductance(self, parameters: Parameters, drive: EdgeDrive, state: FloatArray) -> FloatArray:
        """dI/dΔV = g at a held state, S."""
        return np.asarray(state[0] + np.zeros_like(drive.voltage))

    def steady(self, parameters: Parameters, drive: EdgeDrive) -> tuple[FloatArray, FloatArray]:
        """I = g∞ΔV and its exact slope g∞ + ΔV dg∞/dΔV (dg∞/dΔV = 0 where the floor holds)."""
        level, slope, law = self.relative(parameters, drive)
        held = level < law.floor
        level = np.where(held, law.floor, level)
        slope = np.where(held, 0.0, slope)
        return law.g0 * level * drive.voltage, law.g0 * (level + drive.voltage * slope)

    def steady_state(self, parameters: Parameters, drive: EdgeDrive) -> FloatArray:
        """g∞ in S, the floor included."""
        level, law = self._level(parameters, drive)
        return np.asarray(law.g0 * np.maximum(level, law.floor))[np.newaxis]

    def initial_state(self, parameters: Parameters, drive: EdgeDrive) -> FloatArray:
        """g∞ without voltage, at the pressures and concentrations of ``drive``."""
        rest = EdgeDrive(
            np.zeros_like(drive.voltage), drive.pressure_difference, drive.concentration_base, drive.concentration_tip
        )
        return self.steady_state(parameters, rest)

    def time_constant(self, parameters: Parameters, drive: EdgeDrive) -> FloatArray:
        """τ = L²/12D, the flux-based estimate of the letter (the slowest diffusive mode is L²/π²D)."""
        tau = parameters["length"] ** 2 / (12.0 * parameters["diffusion"])
        return np.asarray(tau + np.zeros_like(drive.voltage))[np.newaxis]

    # -- tuning and validity --------------------------------------------------------------------------------------

    def tunables(self) -> Mapping[str, str]:
        """Every parameter, and the radius ratio R_b/R_t with either radius kept."""
        named = {name: parameter.unit for name, parameter in self.parameters.items()}
        return {**named, "radius_ratio_fixed_base": "1", "radius_ratio_fixed_tip": "1"}

    def tuned(self, parameters: Parameters, name: str, values: FloatArray) -> Parameters:
        """``parameters`` with ``name`` set; the ratios move the radius that is not fixed."""
        if name == "radius_ratio_fixed_base":
            return {**parameters, "tip_radius": parameters["base_radius"] / values}
        if name == "radius_ratio_fixed_tip":
            return {**parameters, "base_radius": parameters["tip_radius"] * values}
        return {**parameters, name: values}

    def clamped(self, parameters: Parameters, drive: EdgeDrive) -> BoolArray:
        """True where the floor of g∞/g0 holds: no gradient there."""
        level, law = self._level(parameters, drive)
        return np.asarray(level < law.floor)

    def validity(self, parameters: Parameters, drive: EdgeDrive) -> Sequence[str]:
        """Sentences where the long-channel, dilute, uniform-field theory is stretched, or where the floor is active."""
        level, _, law = self.relative(parameters, drive)
        p = law.p_per_volt * drive.voltage + law.p_pressure
        kappa = law.kappa_per_volt * drive.voltage
        said = []
        if np.any(level < law.floor):
            said.append(
                "clamped: the floor of the channel conductance (`minimum_conductance`) is active, so that the gradient "
                "vanishes there; lower the voltage or the pressure difference"
            )
        if np.any(parameters["length"] < 10.0 * parameters["base_radius"]):
            said.append("conical_channel: a channel is shorter than ten base radii, where the long-channel theory fails")
        if self.form == "self-consistent":
            return said
        if np.any(conical_profile.used_up(p, law.salt_drop, kappa)):
            said.append(
                "conical_channel: the analytic law finds a negative salt concentration inside a channel; lower the voltage "
                "or the pressure difference, or use `form: self-consistent`"
            )
        if np.any(np.abs(kappa) * conical_profile.averages(p, law.ratio).h > _GOOD_TO):
            said.append(
                "conical_channel: the analytic law is used outside the range in which it is good to about 5 % (0.5 V at "
                "0.2 mM); lower the voltage or use `form: self-consistent`"
            )
        if np.any(level < 0.0):
            said.append("conical_channel: a conductance is negative, which no channel can be; switch the floor on")
        return said

    def check(self, parameters: Parameters) -> Sequence[str]:
        """Refuse what makes no cone."""
        if np.any(parameters["tip_radius"] > parameters["base_radius"]):
            return ("`tip_radius` is above `base_radius`; name the wider end base",)
        return ()
