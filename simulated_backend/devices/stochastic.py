"""A two-state device that switches at random, as filaments form and break."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, final

import numpy as np

from hil.core.errors import ConfigError
from hil.core.types import BoolArray, FloatArray
from simulated_backend.devices.base import Device, EdgeDrive, Parameter, Parameters, StateKind
from simulated_backend.devices.bounded import fraction, resistance, started
from simulated_backend.spice_form import SpiceDrive, SpiceModel, SpiceState, number

_EXPONENT_LIMIT = 300.0
_STREAMS = 2**31


@final
class Stochastic(Device):
    """R_off or R_on; a Poisson process switches, with a mean waiting time that falls exponentially with voltage.

    τ_set = τ_set0 exp(-v/V_set) for v > 0 while off; τ_reset = τ_reset0 exp(-|v|/V_reset) for v < 0 while on; nothing
    happens otherwise. Drawn exactly for any waveform: the state carries the hazard H = ∫dt/τ gathered since the last
    switching and the device switches when H reaches an exponential random number of mean 1. (The switching shows at
    the end of the time step in which that happens: the step bounds the error of its moment.)

    States: ``on`` (0 or 1), ``hazard`` H, ``stream`` (a whole number: which random number comes next). Option ``seed``;
    edges of one group draw from streams of their own. The law holds no generator: a captured state resumes exactly.
    """

    name: ClassVar[str] = "stochastic"
    source: ClassVar[str] = (
        "Dowling, Slipko & Pershin, Chaos Solitons Fractals 142, 110385 (2021), eqs. (1) and (2); waiting times measured by "
        "Jo, Kim & Lu, Nano Lett. 9, 496 (2009) and Gaba et al., Nanoscale 5, 5872 (2013)"
    )
    parameters: ClassVar[Mapping[str, Parameter]] = {
        "R_on": resistance(10e3, "resistance while on"),
        "R_off": resistance(10e6, "resistance while off"),
        "tau_set": Parameter("s", 2.85e5, 1e-15, 1e30, "mean waiting time to switch on, extrapolated to 0 V"),
        "V_set": Parameter("V", 0.156, 1e-4, 1e3, "voltage that shortens the wait to switch on e times"),
        "tau_reset": Parameter("s", 2.85e5, 1e-15, 1e30, "mean waiting time to switch off, extrapolated to 0 V"),
        "V_reset": Parameter("V", 0.156, 1e-4, 1e3, "voltage that shortens the wait to switch off e times"),
        "on_initial": fraction(0.0, "1: on before anything was applied, 0: off"),
    }
    presets: ClassVar[Mapping[str, Mapping[str, float]]] = {
        # a fit to an amorphous-silicon device, as quoted in later modelling papers; resistances ours: unverified
        "amorphous-silicon": {"tau_set": 2.85e5, "V_set": 0.156, "tau_reset": 2.85e5, "V_reset": 0.156},
    }
    options: ClassVar[Mapping[str, tuple[object, ...]]] = {"seed": ()}
    """Empty: any whole number from 0."""
    kind: ClassVar[StateKind] = StateKind.RATE
    states: ClassVar[tuple[str, ...]] = ("on", "hazard", "stream")

    def __init__(self, seed: object = 0) -> None:
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise ConfigError(f"law {self.name!r}: seed must be a whole number from 0, not {seed!r}")
        self.seed = seed

    def waiting_time(self, parameters: Parameters, drive: EdgeDrive, state: FloatArray) -> FloatArray:
        """Mean time to the next switching in s at a lasting voltage; infinite where none can happen."""
        rate = self._hazard_rate(parameters, drive, state)
        return np.asarray(np.divide(1.0, rate, out=np.full(np.shape(rate), np.inf), where=rate > 0.0))

    def current(self, parameters: Parameters, drive: EdgeDrive, state: FloatArray) -> FloatArray:
        """v/R."""
        return drive.voltage * self.conductance(parameters, drive, state)

    def conductance(self, parameters: Parameters, drive: EdgeDrive, state: FloatArray) -> FloatArray:
        """1/R_on or 1/R_off."""
        return np.asarray(np.ones_like(drive.voltage) / np.where(self._is_on(state), parameters["R_on"], parameters["R_off"]))

    def initial_state(self, parameters: Parameters, drive: EdgeDrive) -> FloatArray:
        """``on_initial``, no hazard gathered, one stream of random numbers for every edge and copy."""
        on = started(parameters["on_initial"], drive)
        streams = np.random.default_rng(self.seed).integers(0, _STREAMS, size=on.shape).astype(np.float64)
        return np.concatenate((on, np.zeros_like(on), streams))

    def state_rate(self, parameters: Parameters, drive: EdgeDrive, state: FloatArray) -> FloatArray:
        """Only the hazard moves, at 1/τ."""
        rate = np.zeros(np.broadcast_shapes(np.shape(state), (3, *np.shape(drive.voltage))))
        rate[1] = self._hazard_rate(parameters, drive, state)
        return rate

    def decay(self, parameters: Parameters, state: FloatArray, duration: float) -> FloatArray:
        """Without voltage nothing switches."""
        return state

    def clip(self, parameters: Parameters, state: FloatArray) -> FloatArray:
        """Where enough hazard has gathered the device switches, and the next threshold is drawn."""
        switched = state[1] >= _threshold(state[2])
        if not np.any(switched):
            return state
        after = np.array(state, dtype=np.float64)
        after[0] = np.where(switched, 1.0 - np.round(state[0]), state[0])
        after[1] = np.where(switched, 0.0, state[1])
        after[2] = np.where(switched, _scrambled(state[2], 1)[1], state[2])
        return after

    def check(self, parameters: Parameters) -> Sequence[str]:
        """R_on below R_off; on is 0 or 1."""
        problems = []
        if np.any(parameters["R_on"] >= parameters["R_off"]):
            problems.append("R_on must be smaller than R_off")
        if np.any((parameters["on_initial"] != 0.0) & (parameters["on_initial"] != 1.0)):
            problems.append("on_initial must be 0 or 1")
        return problems

    def spice(self, parameters: Mapping[str, float], drive: SpiceDrive, nodes: Sequence[str]) -> SpiceModel:
        """The device in its present state: SPICE draws no random numbers, so it does not switch there."""
        on = f"({nodes[0]}>0.5 ? {number(parameters['R_on'])} : {number(parameters['R_off'])})"
        still = (SpiceState("0"), SpiceState("0"), SpiceState("0", float(_STREAMS)))
        return SpiceModel(f"({drive.voltage})/{on}", still)

    def _is_on(self, state: FloatArray) -> BoolArray:
        """Whether it is on; a hazard past its threshold counts as switched before ``clip`` has booked it."""
        return np.asarray((state[0] > 0.5) ^ (state[1] >= _threshold(state[2])))

    def _hazard_rate(self, parameters: Parameters, drive: EdgeDrive, state: FloatArray) -> FloatArray:
        v = drive.voltage
        set_rate = np.exp(np.minimum(v / parameters["V_set"], _EXPONENT_LIMIT)) / parameters["tau_set"]
        reset_rate = np.exp(np.minimum(-v / parameters["V_reset"], _EXPONENT_LIMIT)) / parameters["tau_reset"]
        on = state[0] > 0.5
        return np.where(~on & (v > 0.0), set_rate, np.where(on & (v < 0.0), reset_rate, 0.0))


def _threshold(stream: FloatArray) -> FloatArray:
    """The exponential random number, mean 1, that ``stream`` stands for."""
    return -np.log(_scrambled(stream, 0)[0])


def _scrambled(stream: FloatArray, salt: int) -> tuple[FloatArray, FloatArray]:
    """A uniform number in (0, 1) and a new whole number below 2^31 from ``stream`` (SplitMix64, Steele et al. 2014)."""
    z = np.round(stream).astype(np.uint64) * np.uint64(2) + np.uint64(salt)
    z = (z + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    uniform = ((z >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    return uniform, (z >> np.uint64(33)).astype(np.float64)
