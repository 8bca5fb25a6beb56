"""`hil calibrate` from end to end: what it finds is what the emulated instruments really have, and using it helps.

The truth comes from the emulators themselves, past every instrument: the errors that each specimen was given by its seed.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from hil.bench import Assembled, Target, shipped_protocols
from hil.bench_network import replica_networks
from hil.bench_station import virtual_plan
from hil.calibrate_run import CalibrateRequest, calibrate
from hil.cli import app
from hil.core.errors import InstrumentError
from hil.core.events import EventStream
from hil.core.lab import Lab
from hil.core.types import Stimulus
from hil.experiment.bench_file import BenchFile
from hil.experiment.loader import read
from hil.prepared import Prepared, Request, prepare
from hil.record.reader import list_runs, load
from hil.resume import resume
from hil.run import run
from simulated_backend.virtual_bench.bench import Bench
from tests.command_line import hil
from tests.resumed import Interrupt

SEED = 18
"""The electrometer of this seed errs by 0.8 mV at 4 V, inside its data sheet (0.025 % + 0.3 mV)."""
STRICT = 4.0
"""Standard errors that a result may be off: one in 16,000 is farther away."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lab")


@pytest.fixture(scope="module")
def bench_file(folder: Path) -> Path:
    """The divider with an electrometer at node 2, a better voltmeter at node 1, and pressure modules of 0.35 bar."""
    data = read(shipped_protocols() / "benches" / "divider.yaml").data
    instruments = data["station"]["instruments"]
    instruments["monitor"] = dict(instruments["meter"])
    instruments["meter"] = {"type": "instruments.keithley_6517b.Keithley6517B", "address": "ASRL/dev/ttyUSB0::INSTR"}
    small = {"module": "0.35barg", "range": "1.35bara"}
    data["virtual"] = {"seed": SEED, "plant": {}, "instruments": {"pace1": small, "pace2": small}}
    data["outputs"] = {
        "V2": {"node": "2", "parameter": "meter.volt", "setup": {"range": "20 V", "nplc": 1}},
        "V1_measured": {"node": "1", "parameter": "monitor.volt", "setup": {"range": "10 V", "nplc": 1}},
    }
    data["calibration"] = {"reference": "V1_measured"}
    path = folder / "electrometer.yaml"
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def found(bench_file: Path, folder: Path) -> dict[str, Any]:
    """The calibration, with the electrometer's lead on node 1."""
    sets = ("outputs.V2.node=1",)
    return calibrate(CalibrateRequest(str(bench_file), data=folder / "data", sets=sets, voltage=2.0))


@contextmanager
def inside(path: Path, seed: int) -> Iterator[dict[str, Any]]:
    """The emulators of a bench file, in this process."""
    bench = Bench(virtual_plan(read(path).model(BenchFile), seed))
    try:
        yield {name: line.emulator for name, line in bench.lines.items()}
    finally:
        bench.stop()


def entry(facts: dict[str, Any], channel: str) -> dict[str, Any]:
    (one,) = [one for one in facts["found"] if one["channel"] == channel]
    return dict(one)


def agrees(one: dict[str, Any], offset: float, gain: float) -> None:
    assert abs(one["offset"] - offset) < STRICT * one["offset_std"], (one["channel"], offset)
    assert abs(one["gain"] - gain) < STRICT * one["gain_std"], (one["channel"], gain)


def test_offsets_and_gains_are_those_of_the_emulated_instruments(found: dict[str, Any], bench_file: Path) -> None:
    with inside(bench_file, SEED) as emulators:
        channels = emulators["smu"].channels
        source = {name: channels[name].source._volt_errors[6.0] for name in ("smua", "smub")}
        shown = {name: channels[name].meter._error_terms[1][6.0] for name in ("smua", "smub")}
        monitor, meter = emulators["monitor"]._converter, emulators["meter"]._channels["VOLT"].converter
        reference = monitor._gain[2], monitor._offset[2]  # 10 V
        electrometer = meter._gain[1], meter._offset[1]  # 20 V
    # Everything at node 1 is told as the reference sees it: y = offset + gain x turned into its volts.
    gain, offset = reference
    agrees(entry(found, "V1"), offset + gain * source["smua"][1], gain * (1 + source["smua"][0]))
    for name, own in (("V2", electrometer), ("V1.readback", (1 + shown["smua"][0], shown["smua"][1]))):
        agrees(entry(found, name), own[1] - own[0] * offset / gain, own[0] / gain)
    # At node 3 nothing else measures than the source itself.
    own_gain, own_offset = 1 + shown["smub"][0], shown["smub"][1]
    agrees(entry(found, "V3"), own_offset + own_gain * source["smub"][1], own_gain * (1 + source["smub"][0]))
    assert entry(found, "V3")["against"] == "V3.readback"
    assert entry(found, "V2")["offset_std"] < 20e-6
    assert entry(found, "V2")["gain_std"] < 10e-6


def test_pressure_zeros_are_those_of_the_emulated_controllers(found: dict[str, Any], bench_file: Path) -> None:
    with inside(bench_file, SEED) as emulators:
        modules = {
            "P1": emulators["pace1"]._modules[0],
            "P2": emulators["pace1"]._modules[1],
            "P3": emulators["pace2"]._modules[0],
        }
        shown = {
            name: sum(np.array(one.error) * (emulators["pace1"].plant.atmosphere, 1.0, 1.0)) for name, one in modules.items()
        }
    mean = np.mean(list(shown.values()))
    for name, value in shown.items():
        one = entry(found, name)
        assert one["gain"] == 1.0
        assert -one["offset"] == pytest.approx(value - mean, abs=STRICT * one["offset_std"])
        assert one["offset_std"] < 0.2


@pytest.mark.parametrize(
    ("name", "channel", "port", "full_scale"),
    [
        ("regression", "Vin.current", "smua", 1e-6),
        ("regression", "Vbias.current", "smub", 1e-6),
        # A device that remembers: what flows through it at a level says nothing of what flows at 0 V.
        ("single_device", "I", "smua", 1e-4),
    ],
)
def test_zero_currents_are_those_of_the_emulated_ammeters(
    name: str, channel: str, port: str, full_scale: float, zeros: dict[str, dict[str, Any]]
) -> None:
    with inside(shipped_protocols() / "benches" / f"{name}.yaml", 1) as emulators:
        _, offset = emulators["smu"].channels[port].meter._error_terms[0][full_scale]
    one = entry(zeros[name], channel)
    assert one["offset"] == pytest.approx(offset, abs=3.0 * one["offset_std"])
    assert one["offset_std"] < 3e-4 * full_scale
    assert one["applies"] == (abs(one["offset"]) > 2.0 * one["offset_std"])


@pytest.fixture(scope="module")
def zeros(folder: Path) -> dict[str, dict[str, Any]]:
    return {name: calibrate(CalibrateRequest(name, data=folder / "zeros")) for name in ("regression", "single_device")}


def test_zero_currents_are_not_claimed_where_voltages_are_not_known_well_enough(found: dict[str, Any]) -> None:
    for name in ("V1.current", "V3.current"):
        one = entry(found, name)
        assert (one["applies"], one["why_not"]) == (False, "not larger than its error")


def test_raw_readings_identities_and_the_file_are_on_record(found: dict[str, Any], folder: Path, bench_file: Path) -> None:
    kept = json.loads((folder / "data" / "calibrations" / "electrometer.json").read_text(encoding="utf-8"))
    assert kept["format"] == "hil-calibration/1"
    facts = kept["targets"]["virtual"]
    assert facts["instruments"]["smu"]["serial"].startswith("2602B 4")
    assert facts["seed"] == SEED
    assert facts["spans"]["V1"] == 5.0
    recorded = load(found["run_id"], folder / "data")
    assert recorded.outcome == "done"
    # Fitting the recorded readings anew gives what was kept.
    levels, shown = recorded.readings["V1"].to_numpy(), recorded.readings["V1_measured"].to_numpy()
    gain, offset = np.polyfit(levels, shown, 1)
    one = entry(found, "V1")
    assert (offset, gain) == pytest.approx((one["offset"], one["gain"]), abs=1e-9)
    assert levels.max() == 2.0
    assert len(recorded.rows["vented_pressures"]) == 10
    assert recorded.metadata["bench_text"] == bench_file.read_text(encoding="utf-8")


def trained(bench_file: Path, folder: Path, *sets: str) -> tuple[float, Prepared, list[str]]:
    """True voltage of node 2 (V), by the side door, at the weights that a short training ends with; mean over 30 s."""
    everything = ("stop.loss_below=1e-9 V^2", "stop.max_steps=13", *sets)
    prepared = prepare(Request("voltage_divider", str(bench_file), Target.VIRTUAL, sets=everything, data=folder))
    said: list[str] = []
    with prepared.assembled() as assembled:
        assembled.warnings.listen(said.append)
        _train(prepared, assembled)
        true = []
        for _ in range(60):
            assembled.clock.sleep(0.5)
            true.append(assembled.virtual.side_door.voltages()["2"])
        assembled.backend.close()
    return float(np.mean(true)), prepared, said


def _train(prepared: Prepared, assembled: Assembled) -> None:
    assembled.backend.open()
    lab = Lab(assembled.backend, assembled.twin, assembled.clock, EventStream(), prepared.seed, {}, assembled.exchange)
    prepared.procedure.run(prepared.settings, lab)


def test_a_calibrated_training_ends_nearer_to_the_truth(found: dict[str, Any], bench_file: Path, folder: Path) -> None:
    plain, _, _ = trained(bench_file, folder)
    better, _, said = trained(bench_file, folder, f"bench.calibration.use={found['file']}")
    assert abs(plain - 4.0) > 0.6e-3
    assert abs(better - 4.0) < 0.5 * abs(plain - 4.0)
    # 5 V is the limit of V1: its correction had no room, and that is said.
    assert [text for text in said if "'V1': for 5 V its calibration asks for" in text]


def applied(bench_file: Path, folder: Path, *sets: str) -> tuple[float, float]:
    """True error (V) of V1 at 2 V, and how far true pressures (Pa) lie apart at one set-point, mean over 20 s."""
    prepared = prepare(Request("voltage_divider", str(bench_file), Target.VIRTUAL, sets=sets, data=folder))
    with prepared.assembled() as assembled, assembled.backend as backend:
        controls = backend.capabilities.controls
        values = {"V1": 2.0, "V3": 2.0, "P1": 1.01e5, "P2": 1.01e5, "P3": 1.01e5}
        backend.apply(Stimulus.of([values[name] for name in controls.names]))
        assert backend.settle(prepared.settings.settle.policy("V")).settled
        voltages, pressures = [], []
        for _ in range(40):
            assembled.clock.sleep(0.5)
            voltages.append(assembled.virtual.side_door.voltages()["1"])
            pressures.append(list(assembled.virtual.side_door.pressures().values()))
    return abs(float(np.mean(voltages)) - 2.0), float(np.ptp(np.mean(pressures, axis=0)))


def test_set_points_come_nearer_to_the_truth(found: dict[str, Any], bench_file: Path, folder: Path) -> None:
    volt, pascal = applied(bench_file, folder)
    used = f"bench.calibration.use={found['file']}"
    corrected_volt, corrected_pascal = applied(bench_file, folder, used)
    assert volt > 0.5e-3
    assert corrected_volt < 0.15e-3  # what the reference itself and the noise of the source leave
    assert pascal > 10.0
    assert corrected_pascal < 0.2 * pascal
    # A controller that stands higher than its node has the same zero.
    assert applied(bench_file, folder, used, "bench.controls.P1.height=5 cm")[1] < 0.2 * pascal


def test_the_mismatch_of_a_pair_is_the_plants(tmp_path: Path) -> None:
    facts = calibrate(CalibrateRequest("matched_pair", data=tmp_path))
    bench = read(shipped_protocols() / "benches" / "matched_pair.yaml").model(BenchFile)
    one, other = (float(network.parallel[0]) for network in replica_networks(bench, bench.virtual.seed).values())
    pair = facts["pairs"]["A/B"]
    assert pair["ratio_std"] < 5e-4
    assert pair["ratio"] == pytest.approx(other / one, abs=3.0 * pair["ratio_std"])
    assert pair["mismatch_percent"] == pytest.approx(100 * (pair["ratio"] - 1.0))
    # A larger one is found as well, far outside the error.
    sets = ("virtual.plant.mismatch=0.02",)
    plant = bench.virtual.plant.model_copy(update={"mismatch": 0.02})
    bench = bench.model_copy(update={"virtual": bench.virtual.model_copy(update={"plant": plant})})
    one, other = (float(network.parallel[0]) for network in replica_networks(bench, bench.virtual.seed).values())
    pair = calibrate(CalibrateRequest("matched_pair", data=tmp_path, sets=sets))["pairs"]["A/B"]
    assert pair["ratio"] == pytest.approx(other / one, abs=3.0 * pair["ratio_std"])
    assert abs(pair["ratio"] - 1.0) > 10 * pair["ratio_std"]
    # Both are there: the second did not take the place of the first without a trace.
    assert len(list((tmp_path / "calibrations" / "history").glob("matched_pair-*.json"))) == 1


# -- use and refusal --------------------------------------------------------------------------------------------


def use(facts: dict[str, Any], /, **changes: Any) -> dict[str, Any]:
    """The kept file, changed."""
    kept = json.loads(Path(facts["file"]).read_text(encoding="utf-8"))
    kept["targets"]["virtual"] |= changes
    return dict(kept)


def refused(bench_file: Path, folder: Path, kept: dict[str, Any] | None, *sets: str) -> str:
    path = folder / "other.json"
    path.unlink(missing_ok=True)
    if kept is not None:
        path.write_text(json.dumps(kept), encoding="utf-8")
    named = "--set", f"bench.calibration.use={path}"
    more = [part for text in sets for part in ("--set", text)]
    arguments = "run", "voltage_divider", "--bench", str(bench_file), "--on", "virtual", "--data", str(folder / "data")
    code, summary, said = hil(*arguments, *named, *more, "--set", "stop.max_steps=0")
    assert (code, summary["run_id"]) == (2, None), said
    return said


def test_a_calibration_that_does_not_fit_is_refused(found: dict[str, Any], bench_file: Path, folder: Path) -> None:
    assert "there is no file" in refused(bench_file, folder, None)
    instruments = json.loads(json.dumps(found["instruments"]))
    instruments["smu"]["serial"] = "2602B 4000001"
    said = refused(bench_file, folder, use(found, instruments=instruments))
    assert "does not belong to instrument 'smu': it was '2602B 4000001' then" in said
    assert "seed 18, these have seed 3" in refused(bench_file, folder, use(found), "bench.virtual.seed=3")
    said = refused(bench_file, folder, use(found), "bench.outputs.V2.setup.range=2 V")
    assert "setup of 'V2' is {'range': '2 V', 'nplc': 1} now" in said
    assert "limited to 5 V; now its limits reach 6 V" in refused(
        bench_file, folder, use(found), "bench.controls.V1.limits=[0 V, 6 V]"
    )
    told = refused(bench_file, folder, use(found, when="2020-01-01T00:00:00+00:00"), "bench.calibration.max_age=30 days")
    assert "`calibration.max_age` allows 30 days" in told
    assert "is not complete" in refused(bench_file, folder, use(found, found=[{"section": "controls"}]))
    broken = [{**one, "gain": 2.0} for one in found["found"]]
    assert "a gain of 2; no instrument in order has" in refused(bench_file, folder, use(found, found=broken))
    assert "is no record of a calibration" in refused(bench_file, folder, {"format": "something else"})


def test_a_run_says_what_was_corrected_and_keeps_what_the_meters_showed(
    found: dict[str, Any], bench_file: Path, folder: Path
) -> None:
    data = folder / "data"
    arguments = ("run", "voltage_divider", "--bench", str(bench_file), "--on", "virtual", "--data", str(data))
    code, summary, said = hil(*arguments, "--set", f"bench.calibration.use={found['file']}", "--set", "stop.max_steps=1")
    assert code == 1, said
    recorded = load(summary["run_id"], data)
    record = recorded.snapshot["calibration"]
    assert (record["file"], record["run_id"]) == (found["file"], found["run_id"])
    assert record["outputs"]["V2"]["meter.volt"]["offset"] == entry(found, "V2")["offset"]
    assert set(record["controls"]) == {"V1", "V3", "P1", "P2", "P3"}
    raw, read_back = recorded.rows["raw"], recorded.readings
    one = entry(found, "V2")
    assert len(raw) == len(read_back)
    assert raw["V2"].to_numpy() == pytest.approx(one["offset"] + one["gain"] * read_back["V2"].to_numpy(), abs=1e-12)
    # The electrometer shows steps of 10 uV; what is corrected falls between them.
    assert np.allclose(np.round(raw["V1_measured"] / 1e-9) * 1e-9, read_back["V1_measured"], atol=1e-9)


def test_only_what_the_file_asks_for_is_corrected(found: dict[str, Any], bench_file: Path, folder: Path) -> None:
    sets = (f"bench.calibration.use={found['file']}", "bench.calibration.correct=[meters]")
    prepared = prepare(Request("voltage_divider", str(bench_file), Target.VIRTUAL, sets=sets, data=folder))
    with prepared.assembled() as assembled:
        record: Any = assembled.backend.snapshot()["calibration"]
    assert (set(record["controls"]), set(record["outputs"])) == (set(), {"V2"})


def test_a_simulation_says_that_a_calibration_does_nothing_there(found: dict[str, Any], bench_file: Path, folder: Path) -> None:
    sets = ("--set", f"bench.calibration.use={found['file']}", "--set", "stop.max_steps=0")
    _, summary, _ = hil("run", "voltage_divider", "--bench", str(bench_file), "--data", str(folder / "data"), *sets)
    assert [text for text in summary["warnings"] if "does nothing here: a simulated network has no instruments" in text]


def test_a_calibration_that_fails_is_on_record_and_leaves_the_one_before(
    found: dict[str, Any], bench_file: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = folder / "data"
    before = Path(found["file"]).read_bytes()

    def broken(*_: object) -> None:
        raise InstrumentError("the pressure of 'P1' cannot be read: nobody answers")

    monkeypatch.setattr("hil.calibrate._vented", broken)
    done = CliRunner().invoke(app, ["calibrate", str(bench_file), "--data", str(data), "--set", "outputs.V2.node=1"])
    assert done.exit_code == 3
    assert "nobody answers" in done.stderr
    assert Path(found["file"]).read_bytes() == before
    last = list_runs(data)[-1]
    assert (last["protocol"], last["outcome"]) == ("calibrate_electrometer", "failed")
    # What was measured until then is there, and can be shown like every run.
    assert len(load(last["run_id"], data).readings) == 13
    shown = CliRunner().invoke(app, ["show", str(last["run_id"]), "--data", str(data)])
    assert shown.exit_code == 0
    assert "nobody answers" in shown.stdout


def test_a_run_goes_on_with_the_calibration_it_began_with_only(found: dict[str, Any], bench_file: Path, folder: Path) -> None:
    path = folder / "changing.json"
    path.write_bytes(Path(found["file"]).read_bytes())
    sets = (f"bench.calibration.use={path}", "stop.max_steps=3")
    request = Request("voltage_divider", str(bench_file), Target.VIRTUAL, sets=sets, data=folder / "resumed")
    stopped = run(request, [Interrupt(8)])
    assert stopped.exit_code == 5
    path.write_text(json.dumps(use(found, when="2026-01-01T00:00:00+00:00")), encoding="utf-8")
    refusal = resume(stopped.summary["run_id"], request.data)
    assert refusal.exit_code == 2
    assert f"the calibration {path} has changed since run" in refusal.error
    path.write_bytes(Path(found["file"]).read_bytes())
    again = resume(stopped.summary["run_id"], request.data, [Interrupt(4)])
    assert again.exit_code == 5, again.error
