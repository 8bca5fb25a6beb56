"""Device neurons end to end on the simulated pair: curves, slopes, a small classifier, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hil.prepared import Request
from hil.record.curves import load_curves
from hil.run import run

SMALL = ("pairs=4", "points=7")


def result(tmp_path: Path, protocol: str, *sets: str, seed: int | None = None) -> dict[str, Any]:
    found = run(Request(protocol, sets=sets, seed=seed, data=tmp_path))
    assert found.error == "", found.error
    json.dumps(found.summary, allow_nan=False)
    results: dict[str, Any] = found.summary["results"]
    return results


def test_noise_alone_gives_the_error_of_the_budget(tmp_path: Path) -> None:
    found = result(tmp_path, "analog_gradient", "mismatch=0", "pairs=8")
    for method in ("two_device", "two_device_swap", "sequential"):
        assert found[method]["rmse_over_mean"] == pytest.approx(found[method]["error_budget"]["total"], rel=0.15), method
    assert found["noise_A"] == pytest.approx(0.002 * 50e-6, rel=0.1)
    assert Path(found["plot"]).stat().st_size > 10_000


def test_a_swap_cancels_a_mismatch_that_ruins_the_plain_pair(tmp_path: Path) -> None:
    found = result(tmp_path, "analog_gradient", "mismatch=0.02", "pairs=8")
    assert found["two_device"]["rmse_over_mean"] > 0.25
    assert found["two_device_swap"]["rmse_over_mean"] < 0.05
    four = result(tmp_path, "analog_gradient", "mismatch=0.02", "pairs=8", "samples=4")
    assert four["two_device_swap"]["rmse_over_mean"] < 0.03


def test_common_drift_ruins_one_device_at_two_times(tmp_path: Path) -> None:
    found = result(tmp_path, "analog_gradient", "drift=0.005", *SMALL)
    assert found["sequential"]["rmse_over_mean"] > 3 * found["two_device_swap"]["rmse_over_mean"]


def test_an_ideal_pair_is_right_to_the_truncation(tmp_path: Path) -> None:
    found = result(tmp_path, "analog_gradient", "mismatch=0", "noise=0", *SMALL)
    assert found["two_device_swap"]["rmse_over_mean"] < 1e-3
    assert found["two_device"]["rmse_over_mean"] == pytest.approx(found["two_device"]["error_budget"]["truncation"], rel=0.02)
    assert found["two_device"]["reproducibility_r2"] == pytest.approx(1.0)


def test_the_best_spacing_balances_noise_and_curvature(tmp_path: Path) -> None:
    found = result(tmp_path, "analog_gradient", "delta=best", *SMALL)
    assert 0.1 < found["two_device_swap"]["delta"] < 1.0
    assert found["two_device_swap"]["rmse_over_mean"] < 0.025


def test_a_curve_is_kept_with_its_figures(tmp_path: Path) -> None:
    found = result(tmp_path, "iv_curve", "noise=0", "mismatch=0", "family=sinh")
    kept = load_curves(Path(found["file"]))
    assert set(kept.raw) == {"0.1 V/s", "0.5 V/s"}
    curve = kept.best()
    np.testing.assert_allclose(curve.current, 50e-6 * np.sinh(2.5 * curve.voltage) / np.sinh(2.5), atol=1e-15)
    assert (curve.voltage[0], curve.voltage[-1]) == (0.0, 0.0)
    assert curve.cycle.max() >= 1
    figures = found["curves"]["0.1 V/s"]
    assert figures["hysteresis_area_W"] == pytest.approx(0.0, abs=1e-15)
    assert figures["rectification_ratio"] == pytest.approx(1.0)
    assert figures["zero_current_voltage_V"] == pytest.approx(0.0, abs=1e-12)
    assert kept.provenance["run_id"] == 1


def test_a_blank_run_is_subtracted(tmp_path: Path) -> None:
    quick = ("noise=0", "mismatch=0", "rates=[1 V/s]")
    result(tmp_path, "iv_curve", *quick)
    found = result(tmp_path, "iv_curve", *quick, "blank=1")
    kept = load_curves(Path(found["file"]))
    np.testing.assert_allclose(kept.corrected["1 V/s"].current, 0.0, atol=1e-12)
    assert np.max(kept.raw["1 V/s"].current) > 1e-5


@pytest.mark.parametrize(
    ("shape", "first", "last", "count"),
    [
        ("{shape: staircase, start: -0.5 V, stop: 1 V, points: 4}", -0.5, -0.5, 7),
        ("{shape: staircase, start: -0.5 V, stop: 1 V, points: 4, both_directions: false, cycles: 2}", -0.5, 1.0, 8),
        ("{shape: list, voltages: [0 V, 0.2 V, -0.3 V], cycles: 2}", 0.0, -0.3, 6),
        ("{shape: cyclic, start: -1 V, stop: 1 V, points: 5}", 0.0, 0.0, 9),
    ],
)
def test_sweeps_go_where_they_say(tmp_path: Path, shape: str, first: float, last: float, count: int) -> None:
    found = result(tmp_path, "iv_curve", f"sweep={shape}", "rates=[10 V/s]", "noise=0")
    voltage = load_curves(Path(found["file"])).best().voltage
    assert (voltage[0], voltage[-1], len(voltage)) == (first, last, count)


@pytest.mark.parametrize(
    ("protocol", "sets", "message"),
    [
        ("iv_curve", ("sweep={shape: list}",), "a list needs them"),
        ("iv_curve", ("sweep={start: 1 V, stop: -1 V}",), "must lie below"),
        ("iv_curve", ("sweep={shape: staircase, stop: 3 V}",), "outside its limits"),
        ("iv_curve", ("capacitance_from_rates=true", "rates=[1 V/s]"), "two different"),
        ("iv_curve", ("output=V",), "no output 'V'"),
        ("iv_curve", ("blank=77",), "cannot be read"),
        ("analog_gradient", ("delta=0",), "above 0"),
        ("analog_gradient", ("bench.replicas={}", "bench.simultaneous=[]"), "needs a pair of replicas"),
        ("iris", ("folds=1",), "at least 2 folds"),
        ("iris", ("recipe.optimiser=wish", "seeds=1"), "wish"),
        ("iris", ("folds=0", "seeds=1", "baselines=[]", "neurons.slope=curve"), "no test set of its own"),
        ("iris", ("family=cosh",), "cosh"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(tmp_path: Path, protocol: str, sets: tuple[str, ...], message: str) -> None:
    found = run(Request(protocol, sets=sets, data=tmp_path))
    assert found.exit_code in (2, 4)
    assert message in found.error


def test_two_measured_neurons_learn_iris(tmp_path: Path) -> None:
    found = result(tmp_path, "iris", "seeds=1", "recipe.epochs=40", "baselines=[tanh]")
    assert found["neurons"] == "two_device"
    assert found["readings"] > 40 * 8 * 5 * 2 * 2 * 12
    assert found["accuracy_mean"] > 0.9
    assert set(found["baselines"]) == {"tanh"}


def test_the_same_seed_gives_the_same_accuracy(tmp_path: Path) -> None:
    quick = ("neurons.slope=curve", "seeds=2", "recipe.epochs=10", "baselines=[relu]")
    first, second = (result(tmp_path, "iris", *quick, seed=5) for _ in range(2))
    assert first["accuracies"] == second["accuracies"]
    assert first["seeds"] == 2


def test_mnist_without_data_says_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIL_DATA", str(tmp_path / "nowhere"))
    found = run(Request("mnist", data=tmp_path))
    assert found.exit_code == 2
    assert "HIL_DATA" in found.error


def test_mnist_runs_on_a_file_of_its_shape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 600)
    images = (rng.random((600, 28, 28)) * 60).astype(np.uint8)
    for row, label in enumerate(labels):  # a bright bar, whose place is the digit
        images[row, 2 + 2 * label : 4 + 2 * label] = 200
    np.savez(tmp_path / "mnist.npz", x_train=images[:500], y_train=labels[:500], x_test=images[500:], y_test=labels[500:])
    monkeypatch.setenv("HIL_DATA", str(tmp_path))
    found = result(tmp_path, "mnist", "seeds=1", "hidden=[32, 16]", "recipe.batch=16")
    assert found["accuracy_mean"] > 0.95
    held = result(tmp_path, "mnist", "seeds=1", "hidden=[32, 16]", "recipe.batch=16", "validation=100")
    assert held["accuracy_mean"] > 0.9
