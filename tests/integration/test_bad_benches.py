"""Bench files of several labs with one mistake each: one sentence with file, line and field, exit code 2, nothing applied."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from hil.cli import app

HEAD = """format: hil-bench/1
twin:
  law: {name: conical_channel, preset: network, parallel: 2000}
  pressure: 1 bar
  concentration: 0.2 mM
  nodes: {"1": {}, "2": {cable_capacitance: 10 pF}, "3": {}}
  edges: {a: {base: "1", tip: "2"}, b: {base: "2", tip: "3"}}
"""
PLAIN = """
station:
  instruments:
    smu: {type: instruments.keysight_b2900.KeysightB2912A, address: "GPIB0::23::INSTR"}
    matrix: {type: instruments.keithley_707b.Keithley707B, address: "TCPIP0::192.0.2.43::5025::SOCKET"}
    meter: {type: instruments.keithley_6517b.Keithley6517B, address: "ASRL/dev/ttyUSB0::INSTR", options: {baud_rate: 9600}}
    scanner: {type: instruments.keithley_daq6510.KeithleyDAQ6510, address: "TCPIP0::192.0.2.12::5025::SOCKET"}
    pace: {type: instruments.druck_pace.DruckPACE5000, address: "TCPIP0::192.0.2.13::5025::SOCKET"}
virtual: {instruments: {smu: {transport: prologix, gpib: 23}}}
controls:
  V1: {node: "1", parameter: smu.ch1.volt, limits: [0 V, 2 V], slew: 5 V/s, compliance: 1 uA, safe: 0 V}
  V3: {node: "3", parameter: smu.ch2.volt, limits: [0 V, 2 V], slew: 5 V/s, compliance: 1 uA, safe: 0 V}
  P2: {node: "2", parameter: pace.a.pressure, limits: [0.9 bar, 1.1 bar], slew: 50 mbar/s, safe: vent, setup: {in_limits: 5 Pa}}
outputs:
  V2: {node: "2", parameter: meter.volt, through: matrix.1A02, setup: {range: 2 V, guard: true}}
  S2: {node: "2", parameter: scanner.ch101.volt, setup: {range: 10 V}}
  I1: {node: "1", parameter: smu.ch1.curr, setup: {nplc: 1}}
interlocks: {lid: {parameter: meter.zero_check, expected: 0}}
housekeeping: {gas: pace.a.pressure}
"""
LIQUID = """
station:
  instruments:
    smu: {type: instruments.keithley_2600.Keithley2636B, address: "TCPIP0::192.0.2.21::5025::SOCKET"}
    weak: {type: instruments.harvard_pump.HarvardPump11Elite, address: "ASRL/dev/ttyACM0::INSTR"}
    strong: {type: instruments.harvard_pump.HarvardPHDUltra, address: "ASRL/dev/ttyACM1::INSTR"}
    valve: {type: instruments.vici_valve.ViciValve, address: "ASRL/dev/ttyUSB2::INSTR"}
mixers:
  mix:
    pumps:
      weak: {concentration: 0.05 mM, volume: 40 mL, syringe: {diameter: 26.7 mm, volume: 60 mL}}
      strong: {concentration: 1 mM, volume: 40 mL, syringe: {diameter: 26.7 mm, volume: 60 mL}}
    valve: valve
    closed: 3
    outlets: {left: 1, right: 2}
    flow: 1 mL/min
    reservoir: 200 uL
    flush: 5
    dead_volume: 20 uL
    line: {length: 20 cm, bore: 0.5 mm}
controls:
  V1: {node: "1", parameter: smu.smua.volt, limits: [0 V, 1 V], slew: 10 V/s, compliance: 1 uA, safe: 0 V}
  V3: {node: "3", parameter: smu.smub.volt, limits: [0 V, 1 V], slew: 10 V/s, compliance: 1 uA, safe: 0 V}
  C1: {node: "1", parameter: mix.left.concentration, limits: [0.1 mM, 0.8 mM], dead_time: 10 s, safe: stop}
outputs:
  I1: {node: "1", parameter: smu.smua.curr, setup: {range: 100 nA, nplc: 1}}
"""
CURVE = """format: hil-protocol/1
procedure: iv_curve
bench: lab.yaml
control: V1
output: I1
sweep: {shape: staircase, start: 0 V, stop: 1 V, points: 2}
settle: {tolerance: 1 uA, window: 100 ms, timeout: 10 s}
"""
TRAINING = """format: hil-protocol/1
procedure: train_network
bench: lab.yaml
apply: {V1: 1 V, V3: 0 V}
targets: {I1: 3 nA}
weights: concentration
weight_sets: {concentration: {start: 0.2 mM, step: 0.02 mM, learning_rate: 1e-4 mM^2/nA^2}}
settle: {tolerance: 1 nA, window: 1 s, timeout: 120 s}
stop: {max_steps: 1}
"""


def refused(folder: Path, monkeypatch: pytest.MonkeyPatch, bench: str, protocol: str) -> str:
    (folder / "lab.yaml").write_text(HEAD + bench)
    (folder / "mine.yaml").write_text(protocol)
    monkeypatch.chdir(folder)
    done = CliRunner().invoke(app, ["run", "mine.yaml", "--on", "virtual"])
    assert done.exit_code == 2, done.output
    (sentence,) = done.stderr.splitlines()
    assert "readings" not in done.stdout
    return sentence


@pytest.mark.parametrize(
    ("old", "new", "field", "said"),
    [
        ("smu.ch2.volt", "smu.ch2.voltage", "controls.V3.parameter", "this port drives volt (V)"),
        ("smu.ch2.volt", "smu.ch3.volt", "controls.V3.parameter", "has no port 'ch3'"),
        ("scanner.ch101", "scanner.ch131", "outputs.S2.parameter", "has no port 'ch131'"),
        ("pace.a.pressure, limits", "pace.b.pressure, limits", "controls.P2.parameter", "has no port 'b'; ports: 'a'"),
        ("matrix.1A02", "matrix.1A13", "outputs.V2.through", "'1A13' is no crosspoint"),
        ("matrix.1A02", "scanner.1A02", "outputs.V2.through", "'scanner' is no switch matrix"),
        ("guard: true", "guard: soft", "outputs.V2.setup.guard", "write true or false, not 'soft'"),
        ("nplc: 1", "nplc: -1", "outputs.I1.setup.nplc", "-1 must be above 0"),
        ("nplc: 1", "nplc: auto", "outputs.I1.setup.nplc", "'auto'"),
        ("in_limits: 5 Pa", "in_limits: auto", "controls.P2.setup.in_limits", "'auto'"),
        ("in_limits: 5 Pa", "in_limits: -5 Pa", "controls.P2.setup.in_limits", "'-5 Pa' must be above 0"),
        ("limits: [0 V, 2 V], slew: 5 V/s, compliance: 1 uA, safe: 0 V}\n  V3", "limits: [0 V, 300 V], slew: 5 V/s, "
         "compliance: 1 uA, safe: 0 V}\n  V3", "controls.V1", "300 is above the largest, 200; lower the `limits`"),
        ("baud_rate: 9600", "line_ending: crcr", "station.instruments.meter.options.line_ending", "one of lf, cr, crlf"),
        ("baud_rate: 9600", "visalib: /x.so", "station.instruments.meter.options.visalib", "must not name code to load"),
        ("TCPIP0::192.0.2.43::5025::SOCKET", "192.0.2.43:5025", "station.instruments.matrix.address", "is no VISA address"),
        ("in_limits: 5 Pa", "reference: relative", "controls.P2.setup.reference", "no choice 'relative'; known: absolute, gauge"),
        ("interlocks:", "notify: {pigeon: {to: me}}\ninterlocks:", "notify.pigeon", "no way 'pigeon'; known: file, email"),
        ("gpib: 23", "gpib: 40", "virtual.instruments.smu", "addresses are 1 to 30"),
        ("I1: {node: \"1\"", "I1: {node: \"3\"", "controls.V1.parameter", "port 'ch1' of 'smu' is wired to the nodes '1' and"),
        ("gpib: 23", "line_frequency: low", "virtual.instruments.smu", "option 'line_frequency' of 'smu' must be"),
        ("gpib: 23", "colour: red", "virtual.instruments.smu", "no option 'colour'"),
        ("meter.zero_check", "meter.zero", "interlocks.lid.parameter", "meter.zero does not exist; parameters: IDN"),
        ("gas: pace.a.pressure", "gas: pace.a.temp", "housekeeping.gas", "pace.a.temp cannot be read; readable are"),
        ("I1: {node: \"1\", parameter: smu.ch1.curr", "I1: {node: \"1\", parameter: meter.curr", "outputs.I1",
         "meter measures volt for another output"),
        ("interlocks:", "edge_limits: {q: {voltage: 1 V}}\ninterlocks:", "edge_limits.q", "there is no edge 'q'"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_bench_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, field: str, said: str
) -> None:
    assert old in PLAIN
    sentence = refused(tmp_path, monkeypatch, PLAIN.replace(old, new, 1), CURVE)
    assert sentence.startswith("hil: lab.yaml, line ")
    assert f": {field}: " in sentence
    assert said in sentence


@pytest.mark.parametrize(
    ("old", "new", "where", "said"),
    [
        ("ttyACM0::INSTR\"", "ttyACM0::INSTR\", watchdog: 15 s", "station.instruments.weak.watchdog", "no watchdog of its own"),
        ("diameter: 26.7 mm, volume: 60 mL}}\n      strong", "volume: 60 mL}}\n      strong",
         "mixers.mix.pumps.weak.syringe.diameter",
         "say the diameter of the syringe in pump 'weak'"),
        ("flow: 1 mL/min", "flow: 1 L/min", "controls.C1", "pump 'weak' would deliver 947 mL/min and can do "),
        ("step: 0.02 mM", "step: 0.0001 mM", "concentration.step", "would not be seen: pumps mix to 0.1 % (0.0008 mM of 0.8 mM)"),
        ("learning_rate: 1e-4", "learning_rate: -1e-4", "concentration.learning_rate", "must be above 0"),
        ("tolerance: 1 nA", "tolerance: -1 nA", "settle.tolerance", "'-1 nA' must be above 0"),
        ("timeout: 120 s", "timeout: 500 ms", "settle.window", "1 s do not fit into the `timeout` of 0.5 s"),
    ],
)  # fmt: skip
def test_a_mistake_about_liquids_and_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, where: str, said: str
) -> None:
    assert old in LIQUID or old in TRAINING
    sentence = refused(tmp_path, monkeypatch, LIQUID.replace(old, new, 1), TRAINING.replace(old, new, 1))
    assert where in sentence
    assert said in sentence


def test_a_control_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sentence = refused(tmp_path, monkeypatch, PLAIN, CURVE.replace("control: V1", "control: V9"))
    assert sentence == "hil: mine.yaml, line 4: control: there is no control 'V9'; known: V1, V3, P2"


def test_emulated_pumps_hold_what_the_mixers_say() -> None:
    import yaml

    from hil.bench_station import virtual_plan
    from hil.experiment.bench_file import BenchFile

    bench = BenchFile.model_validate(yaml.safe_load(HEAD + LIQUID))
    options = {one.name: one.options for one in virtual_plan(bench, 1).instruments}
    assert options["weak"] == pytest.approx({"diameter": 0.0267, "content": 4e-5, "capacity": 6e-5})
    assert options["valve"] == {}
    told = yaml.safe_load(HEAD + LIQUID) | {"virtual": {"instruments": {"weak": {"content": 1e-5}}}}
    options = {one.name: one.options for one in virtual_plan(BenchFile.model_validate(told), 1).instruments}
    assert options["weak"]["content"] == 1e-5
