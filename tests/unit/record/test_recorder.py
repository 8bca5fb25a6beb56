"""The record: everything that was measured comes back, also from plain QCoDeS, also when the run was cut short."""

import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from hil.core.errors import ConfigError, RecordError
from hil.core.events import Finished, Measured, StepDone, TableRow, Warned
from hil.core.types import Channel, Kind, Layout, Quantity, Readings, Stimulus
from hil.record.provenance import git_commit, versions
from hil.record.reader import export, list_runs, load
from hil.record.recorder import DATABASE, RunRecorder, identifiers, plain

CONTROLS = Layout((Channel("V1", Quantity.VOLTAGE, Kind.DRIVE), Channel("length.a", Quantity.LENGTH, Kind.TUNE)))
OUTPUTS = Layout((Channel("V2", Quantity.VOLTAGE, Kind.SENSE), Channel("I 1", Quantity.CURRENT, Kind.SENSE)))


def recorder(folder: Path, **more: Any) -> RunRecorder:
    return RunRecorder(
        folder,
        protocol="test",
        sample="chip 7",
        controls=CONTROLS,
        outputs=OUTPUTS,
        snapshot={"range": 10.0, "bad": float("nan")},
        description={"protocol": "test", "target": "simulated", "seed": 5, "notebook": {"operator": "me"}, **more},
    )


def block(rows: int, start: int = 0) -> Measured:
    numbers = np.arange(start, start + rows, dtype=float)
    return Measured(
        [Stimulus.of([number, 1e-6], [True, number % 2 == 0]) for number in numbers],
        Readings(
            np.column_stack([numbers / 3, np.full(rows, np.nan)]),
            np.column_stack([numbers * 1e-3, numbers]),
            np.column_stack([numbers > 1, numbers < 0]),
            numbers * 10,
        ),
    )


@pytest.fixture
def finished(tmp_path: Path) -> tuple[int, Path]:
    made = recorder(tmp_path)
    made.emit(block(3))
    made.emit(block(2, start=3))
    for step in range(2):
        made.emit(
            StepDone(step, np.array([0.5]), {"length.a": 1e-6 * step}, 0.25 / (step + 1), 0.1, {"V2": 2.0}, np.array([3.0]), 7)
        )
    made.emit(TableRow("fit", {"slope": 2.0, "branch": "up"}))
    made.emit(TableRow("fit", {"slope": 3.0, "branch": "down"}))
    made.emit(Warned("careful"))
    made.emit(Finished("done", "all good"))
    made.finish({"outcome": "done", "steps": 2, "loss": 0.125})
    made.close()
    return made.run_id, tmp_path


def test_every_reading_comes_back_exactly(finished: tuple[int, Path]) -> None:
    run = load(*finished)
    assert list(run.readings.index) == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(run.readings["V2"], np.arange(5) / 3)
    assert run.readings["I_1"].isna().all()
    np.testing.assert_array_equal(run.readings["V2_std"], np.arange(5) * 1e-3)
    np.testing.assert_array_equal(run.readings["V2_overload"], [0, 0, 1, 1, 1])
    np.testing.assert_array_equal(run.readings["length_a_connected"], [1, 0, 1, 0, 1])
    np.testing.assert_array_equal(run.readings["time"], np.arange(5) * 10)


def test_history_tables_and_events_come_back(finished: tuple[int, Path]) -> None:
    run = load(*finished)
    assert list(run.history["loss"]) == [0.25, 0.125]
    assert list(run.history["weight_length.a"]) == [0.0, 1e-6]
    assert list(run.history["gradient_0"]) == [3.0, 3.0]
    assert list(run.rows["fit"]["branch"]) == ["up", "down"]
    assert [event.get("warning") or event.get("reason") for event in run.events] == ["careful", "all good"]
    assert run.outcome == "done"
    assert run.summary["loss"] == 0.125
    assert run.sample == "chip 7"
    assert run.metadata["notebook"] == {"operator": "me"}
    assert run.snapshot == {"range": 10.0, "bad": None}


def test_plain_qcodes_reads_the_same(finished: tuple[int, Path]) -> None:
    from qcodes.dataset import load_by_id
    from qcodes.dataset.sqlite.database import connect

    run_id, folder = finished
    connection = connect(folder / DATABASE)
    try:
        data = load_by_id(run_id, connection).get_parameter_data("V2", "loss")
        # QCoDeS itself hands out 15 digits of what is stored.
        np.testing.assert_allclose(data["V2"]["V2"], np.arange(5) / 3, rtol=1e-14)
        np.testing.assert_array_equal(data["loss"]["step"], [0, 1])
    finally:
        connection.close()


def test_what_was_emitted_is_on_disk_before_the_run_ends(tmp_path: Path) -> None:
    made = recorder(tmp_path)
    made.emit(block(4))
    try:
        run = load(made.run_id, tmp_path)
        assert len(run.readings) == 4
        assert run.outcome == "unfinished"
        assert list_runs(tmp_path)[0]["outcome"] == "unfinished"
    finally:
        made.close()


def test_the_database_is_in_wal_mode_and_runs_are_numbered(tmp_path: Path) -> None:
    for expected in (1, 2):
        made = recorder(tmp_path)
        made.close()
        assert made.run_id == expected
    with sqlite3.connect(tmp_path / DATABASE) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()
    assert [entry["run_id"] for entry in list_runs(tmp_path)] == [1, 2]


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="--data DIR"):
        recorder(tmp_path / "file" / "below")
    (tmp_path / DATABASE).write_bytes(b"not a database at all, whatever its name says" * 100)
    with pytest.raises(ConfigError, match="not a database"):
        recorder(tmp_path)


def test_a_write_that_fails_stops_the_run(tmp_path: Path) -> None:
    made = recorder(tmp_path)
    made._connection.execute("PRAGMA query_only=1")
    with pytest.raises(RecordError, match="could not be written"):
        made.emit(block(1))
    made._connection.execute("PRAGMA query_only=0")
    made.close()


def test_exports_hold_the_same_numbers(finished: tuple[int, Path], tmp_path: Path) -> None:
    run = load(*finished)
    out = tmp_path / "out"
    by_name = {path.name: path for form in ("csv", "parquet", "netcdf") for path in export(run, form, out)}
    want = np.arange(5) / 3
    np.testing.assert_array_equal(pd.read_csv(by_name["run_1_readings.csv"])["V2"], want)
    np.testing.assert_array_equal(pd.read_parquet(by_name["run_1_readings.parquet"])["V2"], want)
    with xr.open_dataset(by_name["run_1.nc"], engine="h5netcdf") as dataset:
        np.testing.assert_array_equal(dataset["V2"], want)
        np.testing.assert_array_equal(dataset["history_loss"], [0.25, 0.125])
        assert json.loads(dataset.attrs["notebook"]) == {"operator": "me"}
    assert json.loads(by_name["run_1.json"].read_text())["seed"] == 5
    assert list(pd.read_csv(by_name["run_1_fit.csv"])["slope"]) == [2.0, 3.0]


def test_unknown_runs_formats_and_folders(finished: tuple[int, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no run 9 .* runs 1 … 1"):
        load(9, finished[1])
    with pytest.raises(ConfigError, match="csv, netcdf, parquet, not to 'xml'"):
        export(load(*finished), "xml", tmp_path)
    with pytest.raises(ConfigError, match="there are no runs in"):
        list_runs(tmp_path / "nowhere")
    (tmp_path / "plain").write_text("")
    with pytest.raises(ConfigError, match="cannot be written into"):
        export(load(*finished), "csv", tmp_path / "plain")


def test_names_become_identifiers_without_collision() -> None:
    assert identifiers(["a.b", "a_b", "1", "µ"]) == {"a.b": "a_b", "a_b": "a_b_2", "1": "c_1", "µ": "c__"}


def test_plain_is_json_without_nan() -> None:
    value = {"a": np.array([1.0, np.nan]), 2: (np.float64(np.inf), Path("x"), True), "n": None}
    assert json.loads(json.dumps(plain(value), allow_nan=False)) == {"a": [1.0, None], "2": [None, "x", True], "n": None}


def test_provenance_names_python_and_this_package() -> None:
    assert {"python", "numpy", "qcodes"} <= set(versions())
    assert git_commit() == "" or len(git_commit().removesuffix("-dirty")) == 40


def of_pair(folder: Path, outputs: Layout = OUTPUTS) -> int:
    made = RunRecorder(
        folder, protocol="test", sample="", controls=CONTROLS, outputs=outputs, snapshot={}, replicas=("left", "right"),
        description={"protocol": "test", "target": "simulated", "units": {"V1": "V", "V2": "V", "I 1": "A"}},
    )  # fmt: skip
    made.emit(block(1))
    values = np.array([[0.1 + 0.2, np.nan], [1 / 3, 1e-9], [-0.0, 2e-9], [5e-324, 3e-9]])
    stimuli = [Stimulus.of([number, 1e-6]) for number in (0.1, 0.2, 0.3, 0.4)]
    pair = Readings(values, np.full((4, 2), np.nan), np.isnan(values), np.array([1.0, 1.0, 2.0, 2.0]), ("left", "right") * 2)
    made.emit(Measured(stimuli, pair))
    made.finish({"outcome": "done"})
    made.close()
    return made.run_id


def test_readings_of_replicas_tell_which_device_they_are_of(tmp_path: Path) -> None:
    run = load(of_pair(tmp_path), tmp_path)
    # The plain verbs read the first of them.
    assert list(run.readings["replica"]) == ["left", "left", "right", "left", "right"]
    assert list(run.readings["V1"]) == [0.0, 0.1, 0.2, 0.3, 0.4]
    assert list(run.readings["V2"])[1:] == [0.1 + 0.2, 1 / 3, -0.0, 5e-324]
    assert np.isnan(run.readings["I_1"].iloc[1])
    assert run.readings["I_1_overload"].iloc[1] == 1
    found = run.to_xarray()
    assert list(found["replica"]) == [0, 0, 1, 0, 1]
    assert found["replica"].attrs == {"flag_values": [0, 1], "flag_meanings": "left right"}


@pytest.mark.parametrize("form", ["csv", "netcdf"])
def test_readings_of_replicas_are_exported(tmp_path: Path, form: str) -> None:
    path = export(load(of_pair(tmp_path), tmp_path), form, tmp_path / "out")[0]
    if form == "csv":
        assert list(pd.read_csv(path)["replica"]) == ["left", "left", "right", "left", "right"]
    else:
        with xr.open_dataset(path, engine="h5netcdf") as found:
            assert list(found["replica"]) == [0, 0, 1, 0, 1]
            assert found["replica"].attrs["flag_meanings"] == "left right"


def test_plain_qcodes_reads_replicas(tmp_path: Path) -> None:
    from qcodes.dataset import load_by_id
    from qcodes.dataset.sqlite.database import connect

    run_id = of_pair(tmp_path)
    connection = connect(tmp_path / DATABASE)
    try:
        dataset = load_by_id(run_id, connection)
        data = dataset.get_parameter_data("V2", "replica")
        assert list(data["replica"]["replica"]) == [0, 0, 1, 0, 1]
        assert list(data["V2"]["V2"])[1:3] == pytest.approx([0.3, 1 / 3])
        assert dataset.paramspecs["replica"].label == "replica (left, right)"
    finally:
        connection.close()


def test_an_output_of_that_name_keeps_it(tmp_path: Path) -> None:
    outputs = Layout((Channel("replica", Quantity.VOLTAGE, Kind.SENSE), Channel("I", Quantity.CURRENT, Kind.SENSE)))
    run = load(of_pair(tmp_path, outputs), tmp_path)
    assert list(run.readings["replica_"]) == ["left", "left", "right", "left", "right"]
    assert run.readings["replica"].iloc[2] == 1 / 3


def test_kept_readings_are_what_the_procedure_was_given(tmp_path: Path) -> None:
    from hil.record.kept import kept_readings

    kept = kept_readings(tmp_path, of_pair(tmp_path), {"reading": 3})
    assert len(kept) == 3
    assert kept.readings.replica == ("left", "left", "right")
    assert kept.applied.tolist() == [[0.0, 1e-6], [0.1, 1e-6], [0.2, 1e-6]]
    assert kept.connected.all()
    assert np.isnan(kept.readings.std[1:]).all()
    left = kept.without([[0, 1]])
    assert left.readings.replica == ("left", "right")
    assert left.readings.values[0, 0] == 0.1 + 0.2
    assert left.readings.overload.tolist() == [[False, True], [False, False]]


def test_a_damaged_database_is_told_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "runs.db").write_bytes(b"this was a database once" * 100)
    told = subprocess.run(
        [sys.executable, "-m", "hil.cli", "runs", "--data", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert told.returncode == 2
    assert told.stdout == ""
    assert told.stderr.splitlines() == [f"hil: {tmp_path / 'runs.db'} cannot be read: file is not a database"]
