"""A bench that counts its pressures from the atmosphere trains like one that counts them from nothing."""

import json
from pathlib import Path

from hil.bench import shipped_protocols
from hil.experiment.loader import read
from tests.command_line import hil


def _gauge_bench(folder: Path) -> str:
    data = read(shipped_protocols() / "benches" / "divider.yaml").data
    data["pressure_reference"] = "gauge"
    data["twin"]["pressure"] = "0 bar"
    for name in ("P1", "P2", "P3"):
        data["controls"][name]["limits"] = ["-0.1 bar", "0.1 bar"]
    data["virtual"]["instruments"] = {name: {"range": "2.00barg"} for name in ("pace1", "pace2")}
    path = folder / "gauge.yaml"
    path.write_text(json.dumps(data), encoding="utf-8")
    return str(path)


def test_a_bench_of_gauge_pressures_trains_to_the_same_differences(tmp_path: Path) -> None:
    common = ("run", "voltage_divider", "--on", "virtual", "--data", str(tmp_path))
    code, gauge, said = hil(*common, "--bench", _gauge_bench(tmp_path), "--set", "weight_sets.pressure.start=0 bar")
    assert code == 0, said
    assert abs(gauge["outputs"]["V2"] - 4.0) < 2e-3
    _, absolute, _ = hil(*common)
    # Only differences act. Noise stops the two at slightly different points; 10 mbar is what they have moved.
    for name in ("P1", "P3"):
        ways = [trained["weights"][name] - trained["weights"]["P2"] for trained in (gauge, absolute)]
        assert abs(ways[0] - ways[1]) < 300.0


def test_a_controller_that_counts_from_nothing_is_refused_on_it(tmp_path: Path) -> None:
    path = _gauge_bench(tmp_path)
    code, summary, said = hil(
        "run", "voltage_divider", "--on", "virtual", "--data", str(tmp_path), "--bench", path,
        "--set", "weight_sets.pressure.start=0 bar", "--set", "bench.virtual.instruments={}",
    )  # fmt: skip
    assert code != 0
    assert "wants gauge pressures" in said + str(summary)
