"""The same stimuli on two targets: what the wire and the terminals do to them, and nothing else."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hil.bench import Assembled, Target, assemble
from hil.bench_station import loading, terminal_loads
from hil.core.types import FloatArray, SettlePolicy, Stimulus
from hil.experiment.bench_file import BenchFile
from hil.experiment.loader import read
from simulated_backend.twin import SimulatedTwin

BENCHES = Path(__file__).parents[2] / "protocols" / "benches"
# Long enough for the pneumatics (0.3 s) to have died away to less than the tolerance.
PATIENT = SettlePolicy(tolerance=3e-5, window=1.5, timeout=300.0)
STIMULI = [
    [5.0, 0.0, 1.000e5, 1.000e5, 1.000e5],
    [5.0, 0.0, 1.015e5, 0.957e5, 1.026e5],
    [2.5, 0.5, 1.002e5, 0.998e5, 1.000e5],
    [1.0, 0.0, 1.000e5, 1.010e5, 0.990e5],
    [0.0, 0.0, 1.000e5, 1.000e5, 1.000e5],
]


def bench(*overrides: str) -> BenchFile:
    document = read(BENCHES / "divider.yaml")
    for override in overrides:
        path, _, value = override.partition("=")
        document.override(path, value, f"--set bench.{override}")
    return document.model(BenchFile)


def measured(assembled: Assembled) -> FloatArray:
    """Readings of all stimuli, (n,): those of a simulated network with every tunable property at rest."""
    controls = assembled.backend.capabilities.controls
    rest = [channel.safe.value for channel in controls][5:]
    stimuli = [Stimulus.of([*values, *rest]) for values in STIMULI]
    with assembled.backend as backend:
        return backend.measure(stimuli, PATIENT).values[:, 0]


def test_with_an_ideal_plant_virtual_equals_simulated_within_resolution_and_digits() -> None:
    with assemble(bench(), Target.SIMULATED) as simulated:
        want = measured(simulated)
    with assemble(bench("virtual.plant=ideal"), Target.VIRTUAL) as virtual:
        got = measured(virtual)
    # The reader rounds to 10 uV on its 10 V range; all stimuli are whole steps of the sources; half the digits of the reply
    # and what the tolerance leaves unsettled come on top. 5 uV was seen.
    np.testing.assert_allclose(got, want, rtol=0.0, atol=2e-5)
    assert np.ptp(want) > 3.0


@pytest.fixture(scope="module")
def honest() -> Iterator[Assembled]:
    with assemble(bench(), Target.VIRTUAL) as assembled, assembled.backend:
        yield assembled


@pytest.mark.parametrize("number", range(4))
def test_an_honest_plant_equals_a_simulation_with_the_same_loads(honest: Assembled, number: int) -> None:
    backend, door = honest.backend, honest.virtual.side_door
    backend.apply(Stimulus.of(STIMULI[number]))
    # Noise and the wandering of the pressures are larger than what the ideal plant can be held to.
    report = backend.settle(SettlePolicy(tolerance=2e-3, window=1.5, timeout=60.0))
    assert report.settled
    reading = backend.read(10)
    first = door.voltages()
    loads = terminal_loads(honest.virtual)
    assert set(loads) == {"2"}
    controls, outputs = backend.capabilities.controls, backend.capabilities.outputs
    shunts = {node: (1.0 / resistance, bias) for node, (resistance, bias) in loads.items()}
    looks = []
    for _ in range(5):
        truth, pressures = door.voltages(), door.pressures()
        # The sources and controllers are where they really are, not where they were sent.
        actual = Stimulus.of([truth["1"], truth["3"], pressures["1"], pressures["2"], pressures["3"]])
        with_loads = SimulatedTwin(honest.network, controls, outputs, shunts).predict([actual])[0, 0]
        bare = SimulatedTwin(honest.network, controls, outputs).predict([actual])[0, 0]
        looks.append((abs(truth["2"] - with_loads), abs(bare - with_loads)))
        honest.clock.sleep(0.1)
    # Pressures wander while the channels follow, by up to 40 uV; where they have just stood still 2 uV were seen. The loads
    # themselves make 0.3 to 3 mV.
    assert max(looks)[0] < 1e-4
    apart, taken = min(looks)
    assert apart < 2e-5
    assert taken > 10 * apart
    # The reader's own error: 30 ppm of the reading and 5 ppm of the range after a year, noise, wandering of the pressures.
    assert abs(reading.values[0] - first["2"]) < 3e-4


def test_loading_of_the_membrane_is_the_figure_of_the_data_sheet(honest: Assembled) -> None:
    honest.backend.apply(Stimulus.of(STIMULI[0]))
    honest.backend.read()
    controls = honest.backend.capabilities.controls
    found = loading(honest.network, controls, honest.virtual, Stimulus.of(STIMULI[0]))["2"]
    assert found["unloaded"] == pytest.approx(2.5, abs=1e-9)
    assert found["resistance"] == 1e10
    assert found["relative_by_resistance"] == pytest.approx(0.0012, abs=1e-4)
