"""``simulated.imperfections`` of a bench file: off unless written, in units, seeded, with names that are checked."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from hil.bench import Target, assemble
from hil.bench_world import declared_imperfections
from hil.core.errors import ConfigError
from hil.core.types import Determinism, SettlePolicy, Stimulus
from hil.experiment.bench_file import BenchFile
from hil.experiment.loader import read

BENCHES = Path(__file__).parents[3] / "protocols" / "benches"
POLICY = SettlePolicy(tolerance=1e-5, window=1e-3, timeout=10.0, dwell=1e-3)
EVERY = {
    "read_noise": "2 nA",
    "read_noise_relative": "0.1 %",
    "offset": "1 nA",
    "offset_drift": "1 pA/s",
    "quantise_readings": True,
    "quantise_sources": True,
    "device_variation": "5 %",
    "parameter_variation": {"R0": "1 %"},
    "pairs": [["device", "device"]],
    "pair_mismatch": "0.2 %",
    "cycle_variation": "1 %",
    "drift": "0.1 %/h",
    "common_noise": "0.1 %",
    "aperture": "2 ms",
    "slow_factor": 3,
    "open_edges": ["device"],
    "shorted_edges": ["device"],
    "stuck_edges": {"device": "1 uS"},
}


def bench(tmp_path: Path, name: str = "single_device", **imperfections: Any) -> BenchFile:
    content = yaml.safe_load((BENCHES / f"{name}.yaml").read_text(encoding="utf-8"))
    if imperfections:
        content["simulated"] = {"imperfections": imperfections}
    path = tmp_path / "bench.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return read(path).model(BenchFile)


def readings(file: BenchFile, seed: int, count: int = 3) -> np.ndarray:
    with assemble(file, Target.SIMULATED, seed=seed) as lab, lab.backend as backend:
        return backend.measure([Stimulus.of([0.5])] * count, POLICY).values[:, 0]


def test_off_by_default(tmp_path: Path) -> None:
    with assemble(bench(tmp_path), Target.SIMULATED) as lab:
        assert lab.backend.capabilities.determinism is Determinism.EXACT
    assert declared_imperfections(bench(tmp_path)) == {}


def test_every_name_of_the_simulator_can_be_written_and_arrives_in_si(tmp_path: Path) -> None:
    from dataclasses import fields

    from simulated_backend.imperfections import Imperfections

    assert set(EVERY) == {one.name for one in fields(Imperfections)}
    found = Imperfections(**declared_imperfections(bench(tmp_path, **EVERY)))
    assert found.read_noise == pytest.approx(2e-9)
    assert found.offset_drift == pytest.approx(1e-12)
    assert found.drift == pytest.approx(1e-3 / 3600.0)
    assert found.aperture == pytest.approx(2e-3)
    assert found.stuck_edges == {"device": pytest.approx(1e-6)}
    assert found.pairs == (("device", "device"),)


def test_what_is_drawn_follows_the_seed(tmp_path: Path) -> None:
    varied = bench(tmp_path, device_variation="10 %", read_noise="10 nA")
    first, again, other = (readings(varied, seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert abs(other[0] / first[0] - 1.0) > 1e-3
    exact = readings(bench(tmp_path), 1)
    assert abs(first[0] / exact[0] - 1.0) > 1e-3


def test_a_stuck_device_conducts_what_it_is_told(tmp_path: Path) -> None:
    np.testing.assert_allclose(readings(bench(tmp_path, stuck_edges={"device": "20 uS"}), 1), 0.5 * 20e-6, rtol=1e-9)


def test_replicas_keep_their_mismatch_and_vary_on_their_own(tmp_path: Path) -> None:
    def both(**flaws: Any) -> np.ndarray:
        file = bench(tmp_path, "matched_pair", **flaws)
        with assemble(file, Target.SIMULATED, seed=3) as lab, lab.backend as backend:
            row = [Stimulus.of([0.5])] * 2
            return backend.measure_replicas([row] * 200, POLICY)[:, :, 0].mean(axis=0)

    plain, varied = both(), both(device_variation="20 %")
    assert plain[1] / plain[0] == pytest.approx(1.0, abs=0.02)
    assert abs(varied[1] / varied[0] - 1.0) > 0.03


@pytest.mark.parametrize(
    ("flaws", "said"),
    [
        ({"read_nois": "1 nA"}, "did you mean 'read_noise'"),
        ({"read_noise": "1 mV"}, "a quantity in A"),
        ({"read_noise": "-1 nA"}, "must be 0 or above"),
        ({"device_variation": "-5 %"}, "below 0"),
        ({"device_variation": ".nan"}, "is not one number"),
        ({"device_variation": float("nan")}, "finite"),
        ({"slow_factor": 0.5}, "below 1"),
        ({"open_edges": ["devise"]}, "did you mean 'device'"),
        ({"stuck_edges": {"device": "0 S"}}, "open_edges"),
        ({"parameter_variation": {"length": "1 %"}}, "length"),
    ],
)
def test_nonsense_is_refused_by_name(tmp_path: Path, flaws: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said), assemble(bench(tmp_path, **flaws), Target.SIMULATED):
        pass
