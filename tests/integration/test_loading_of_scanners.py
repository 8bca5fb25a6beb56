"""What a scanner takes away is told although its channels are open before and after the reading."""

from pathlib import Path

import pytest

from tests.command_line import hil

BENCH = """
format: hil-bench/1
station:
  instruments:
    smu: {type: instruments.keithley_2400.Keithley2400, address: "GPIB0::24::INSTR"}
    scanner: {type: instruments.keysight_34970a.KeysightDAQ970A, address: "TCPIP0::192.0.2.42::5025::SOCKET"}
    matrix: {type: instruments.keithley_707b.Keithley707B, address: "TCPIP0::192.0.2.43::5025::SOCKET"}
    meter: {type: instruments.keithley_daq6510.KeithleyDAQ6510, address: "TCPIP0::192.0.2.12::5025::SOCKET"}
twin:
  law: {name: ohmic, parameters: {conductance: 100 nS}}
  nodes: {"1": {}, "2": {}, "3": {}, "4": {ground: true}}
  edges: {a: {base: "1", tip: "2"}, b: {base: "2", tip: "3"}, c: {base: "3", tip: "4"}}
controls:
  V1: {node: "1", parameter: smu.volt, limits: [0 V, 3 V], slew: 10 V/s, compliance: 1 uA, safe: 0 V}
outputs:
  V2: {node: "2", parameter: WIRE2, setup: {range: 10 V, nplc: 1}}
  V3: {node: "3", parameter: WIRE3, setup: {range: 10 V, nplc: 1}}
  I1: {node: "1", parameter: smu.curr, setup: {nplc: 1}}
"""
CURVE = """
format: hil-protocol/1
procedure: iv_curve
bench: lab.yaml
control: V1
output: I1
sweep: {shape: cyclic, start: 0 V, stop: 3 V, points: 3}
settle: {tolerance: 10 nA, window: 100 ms, timeout: 10 s}
"""


@pytest.mark.parametrize(
    "wires",
    [("scanner.ch101.volt", "scanner.ch102.volt"), ("meter.volt, through: matrix.1A02", "meter.volt, through: matrix.1A03")],
)
def test_a_node_is_loaded_while_it_is_read_and_by_one_channel_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wires: tuple[str, str]
) -> None:
    (tmp_path / "lab.yaml").write_text(BENCH.replace("WIRE2", wires[0]).replace("WIRE3", wires[1]))
    (tmp_path / "curve.yaml").write_text(CURVE)
    monkeypatch.chdir(tmp_path)
    code, facts, said = hil("dry-run", "curve.yaml")
    assert code == 0, said
    for node, unloaded in (("2", 2.0), ("3", 1.0)):
        load = facts["loading"][node]
        assert load["unloaded"] == pytest.approx(unloaded)
        assert load["resistance"] == pytest.approx(1e10)
        # 6.67 Mohm of source behind 10 Gohm; the other channel's 10 Gohm would add half as much.
        assert load["relative_by_resistance"] == pytest.approx(6.667e6 / 1e10, rel=0.01)
