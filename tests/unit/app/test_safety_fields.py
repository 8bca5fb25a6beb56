"""Safety in the files: limits of a bench file, and a protocol that may only tighten them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from hil.bench import Target, assemble, shipped_protocols
from hil.core.errors import ConfigError, InterlockError, LimitExceededError
from hil.core.types import SettlePolicy, Stimulus
from hil.experiment.bench_file import BenchFile
from hil.experiment.loader import find, read
from hil.experiment.protocol import Protocol


def bench_file(change: Mapping[str, Any] | None = None) -> BenchFile:
    document = read(find("divider", None, shipped_protocols() / "benches", "bench file"))
    for path, value in (change or {}).items():
        place: Any = document.data
        *where, last = path.split(".")
        for key in where:
            place = place.setdefault(key, {})
        place[last] = value
    return document.model(BenchFile)


def protocol(**fields: Any) -> Protocol:
    return Protocol.model_validate({"format": "hil-protocol/1", "procedure": "x", "bench": "divider", **fields})


def test_limits_of_every_kind_reach_the_envelope() -> None:
    change = {
        "controls.V1.power": "10 uW",
        "controls.V1.dwell": "2 h",
        "controls.P1.emergency_slew": "100 mbar/s",
        "edge_limits": {"a": {"pressure": "20 mbar"}},
    }
    lab = assemble(bench_file(change), Target.SIMULATED)
    envelope = lab.backend.envelope
    v1, p1 = envelope.layout["V1"], envelope.layout["P1"]
    assert (v1.max_power, v1.max_dwell, p1.emergency_slew) == pytest.approx((1e-5, 7200.0, 1e4))
    assert envelope.max_power is not None
    assert envelope.max_power[envelope.layout.index("V1")] == pytest.approx(1e-5)
    limits = {limit.edge: (limit.plus, limit.minus, limit.maximum) for limit in envelope.edges}
    assert limits == {"a": ("P1", "P2", 2000.0), "b": ("P2", "P3", np.inf)}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"controls.V1.power": "10 V"}, "controls.V1.power"),
        ({"controls.V1.dwell": "0 s"}, "must be above 0"),
        ({"interlocks": {"lid": {"parameter": "smux.digio.bit1"}}}, "there is no instrument 'smux'; did you mean 'smu'"),
        (
            {"interlocks": {"lid": {"parameter": "smu.digio.bit1", "expect": 1}}},
            "there is no key 'expect'; did you mean 'expected'",
        ),
        ({"ramp_order": ["pace1", "V9"]}, "there is no instrument or control 'V9'"),
        ({"station.instruments.smu.watchdog": "-1 s"}, "above 0"),
        ({"edge_limits": {"z": {"pressure": "1 bar"}}}, "'z'"),
    ],
)
def test_what_makes_no_sense_is_refused(change: Mapping[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        bench_file(change)


def test_the_order_of_ramps_names_instruments_or_controls() -> None:
    bench = bench_file({"ramp_order": [["pace1", "pace2"], "V3", "smu"]})
    assert bench.order() == (("P1", "P2", "P3"), ("V3",), ("V1", "V3"))
    with pytest.raises(ConfigError, match="names 'V3' twice"):
        assemble(bench, Target.VIRTUAL)
    assert bench_file().order() == ()


def test_a_protocol_may_tighten_limits() -> None:
    limits = {"V1": {"limits": ["0 V", "2 V"], "slew": "1 V/s", "power": "1 uW", "dwell": "1 h"}}
    lab = assemble(bench_file(), Target.SIMULATED, limits=protocol(limits=limits, edge_limits={"a": {"pressure": "5 mbar"}}))
    layout = lab.backend.capabilities.controls
    v1 = layout["V1"]
    assert (v1.minimum, v1.maximum, v1.max_slew, v1.max_power, v1.max_dwell) == pytest.approx((0.0, 2.0, 1.0, 1e-6, 3600.0))
    rest = np.array([channel.safe.value for channel in layout])
    with lab, lab.backend as backend:
        backend.apply(Stimulus.of(rest))
        too_much = rest.copy()
        too_much[layout.index("V1")] = 3.0
        with pytest.raises(LimitExceededError, match=r"'V1': 3 V is outside its limits 0 … 2 V \(set in the protocol\)"):
            backend.apply(Stimulus.of(too_much))
        apart = rest.copy()
        apart[layout.index("P1")] += 600.0
        with pytest.raises(LimitExceededError, match="edge 'a': 600 Pa"):
            backend.apply(Stimulus.of(apart))


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"limits": {"V1": {"limits": ["0 V", "9 V"]}}}, "wider than the bench file's 0 … 5 V; a limit can only be tightened"),
        ({"limits": {"V1": {"slew": "100 V/s"}}}, "100 V/s is wider than the bench file's 10 V/s"),
        ({"limits": {"V9": {"slew": "1 V/s"}}}, "there is no control 'V9'; known: V1, V3"),
        ({"limits": {"V1": {"slew": "1 mbar/s"}}}, "1 mbar/s"),
        ({"edge_limits": {"z": {"pressure": "1 mbar"}}}, "there is no edge 'z'"),
    ],
)
def test_a_protocol_cannot_widen_or_invent(fields: Mapping[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        assemble(bench_file(), Target.SIMULATED, limits=protocol(**fields))


def test_a_digital_line_of_the_source_is_an_interlock_on_the_virtual_bench() -> None:
    change = {"interlocks": {"lid": {"parameter": "smu.digio.bit3", "expected": 1}}, "controls.V1.power": "1 W"}
    with assemble(bench_file(change), Target.VIRTUAL) as lab, lab.backend as backend:
        layout = backend.capabilities.controls
        rest = np.array([channel.safe.value for channel in layout])
        rest[layout.index("V1")] = 1.0
        backend.apply(Stimulus.of(rest))
        backend.settle(SettlePolicy(1e-3))
        backend.read()
        smu = backend._station.components["smu"]
        with pytest.raises(ValueError, match=r"8\.0 is invalid"):
            smu.smua.volt(8.0)  # past the backend, on a source that could
        with pytest.raises(ValueError, match=r"8\.0 is invalid"):
            smu.pulse("smua", 8.0, 0.01, period=0.05)
        backend._station.components["smu"].write("digio.writebit(3, 0)")  # somebody opens the lid
        with pytest.raises(InterlockError, match=r"'lid': smu\.digio\.bit3 reads 0, but 1 is needed"):
            backend.read()
        sources = lab.virtual.side_door.sources()["smu"]
        assert abs(sources["smua"]["level"]) < 0.01
        with pytest.raises(InterlockError, match="lid"):
            backend.apply(Stimulus.of(rest))


def test_a_line_that_is_low_when_the_bench_opens_lets_nothing_be_switched_on() -> None:
    change = {"interlocks": {"lid": {"parameter": "smu.digio.bit1"}}, "virtual.instruments": {"smu": {"digital_low": 1}}}
    with assemble(bench_file(change), Target.VIRTUAL) as lab, lab.backend as backend:
        rest = np.array([channel.safe.value for channel in backend.capabilities.controls])
        with pytest.raises(InterlockError, match="reads 0"):
            backend.apply(Stimulus.of(rest))
        assert all(
            outlet["state"] != "control" for ports in lab.virtual.side_door.outlets().values() for outlet in ports.values()
        )
