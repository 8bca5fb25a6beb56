"""What is wrong with a simulated network, as the bench file says it: seeded, and off unless it is written down."""

from typing import Annotated

from pydantic import BeforeValidator, Field

from hil.experiment.bench_model import per_second
from hil.experiment.fields import AnyQuantity, AsTuple, Fraction, Name, Seconds, Siemens, Strict, quantity


def _pairs(value: object) -> object:
    if not isinstance(value, list):
        return value
    return tuple(tuple(entry) if isinstance(entry, list) else entry for entry in value)


class SimulatedImperfections(Strict):
    """``simulated.imperfections``; the names are those of the simulator. "Relative" numbers are fractions (``1 %``).

    Readings: ``read_noise`` (standard deviation of one reading) and ``read_noise_relative``, ``offset`` of every output (standard
    deviation, drawn once) and ``offset_drift`` per second, ``quantise_readings`` to the resolution of the output, ``aperture``
    seconds for one reading, ``common_noise`` of all currents at one moment (relative), ``drift`` of all currents (relative, per
    second). Sources: ``quantise_sources`` to the ``resolution`` of the control. Devices: ``device_variation`` of their
    conductances (relative), ``parameter_variation`` of named parameters, ``pairs`` of edges made alike but for ``pair_mismatch``,
    ``cycle_variation`` from stimulus to stimulus, ``slow_factor`` by which they settle more slowly than believed. Faults:
    ``open_edges``, ``shorted_edges``, ``stuck_edges`` (edge: its conductance).
    Absolute numbers are in the unit of the outputs, which must then all read the same quantity.
    """

    read_noise: AnyQuantity | None = None
    read_noise_relative: Fraction = 0.0
    offset: AnyQuantity | None = None
    offset_drift: AnyQuantity | None = None
    quantise_readings: bool = False
    quantise_sources: bool = False
    device_variation: Fraction = 0.0
    parameter_variation: dict[Name, Fraction] = Field(default_factory=dict)
    pairs: Annotated[tuple[tuple[Name, Name], ...], BeforeValidator(_pairs)] = ()
    pair_mismatch: Fraction = 0.0
    cycle_variation: Fraction = 0.0
    drift: Annotated[float, BeforeValidator(per_second)] = 0.0
    common_noise: Fraction = 0.0
    aperture: Seconds = 0.0
    slow_factor: Annotated[float, quantity("1", minimum=1.0)] = 1.0
    open_edges: Annotated[tuple[Name, ...], AsTuple] = ()
    shorted_edges: Annotated[tuple[Name, ...], AsTuple] = ()
    stuck_edges: dict[Name, Siemens] = Field(default_factory=dict)


class Simulated(Strict):
    """The simulated target. Without anything here its network is exact (but see ``virtual.plant`` for benches with replicas)."""

    imperfections: SimulatedImperfections = Field(default_factory=SimulatedImperfections)
