"""Every write to an output goes one way, on which the envelope has been asked; no file has a way of its own."""

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hil.core.backend import Backend
from hil.core.errors import LimitExceededError
from hil.core.safety import EdgeLimit, SafetyEnvelope
from hil.core.types import Channel, Kind, Quantity, SettlePolicy, Stimulus, Waveform, WaveformLimits
from instruments.backend import InstrumentBackend
from instruments.wiring import ControlWire, OutputWire
from simulated_backend.backend import SimulatedBackend
from tests.unit.instruments import fake_instruments as kit

bench = kit.bench
ROOT = Path(__file__).parents[2]
SOURCES = {
    str(path.relative_to(ROOT)): ast.parse(path.read_text(encoding="utf-8"))
    for package in ("hil", "instruments")
    for path in sorted((ROOT / package).rglob("*.py"))
}
WRITES = {
    # Levels of sources that are on: ramps, and the way to the safe state.
    "level_writer": {"instruments/terminals.py", "instruments/mixer_controls.py", "instruments/scpi_smu_terminal.py"},
    "writers": {"instruments/ramper.py", "instruments/safe_state.py"},
    # Outputs on and off, and what they hold by themselves.
    "enable": {"instruments/outputs.py"},
    "disable": {"instruments/outputs.py", "instruments/safe_state.py"},
    "configure_source": {"instruments/outputs.py"},
    "set_slew": {"instruments/safe_state.py"},
    "set_watchdog": {"instruments/outputs.py", "instruments/mixer.py"},
    # What instruments do by themselves.
    "list_acquisition": {"instruments/list_sweep.py"},
    "waveform_player": {"instruments/waveforms.py"},
    # Liquids.
    "configure_pump": {"instruments/mixer.py"},
}
"""Method that writes to an output -> the files that may use it, beside the drivers and wrappers that have it themselves."""
DOORS = {
    "Ramper": {"instruments/backend.py"},
    "list_sweep": {"instruments/backend.py"},
    "prepared": {"instruments/backend.py"},
    "Switchboard": {"instruments/backend.py"},
    "WayHome": {"instruments/backend.py"},
    "build_station": {"instruments/backend.py"},
    "InstrumentBackend": {"hil/bench.py"},
}
"""What leads there -> the files that may call it by its name."""
RULES = ("_apply", "_apply_row", "_make_safe", "_measure", "_measure_replicas", "_play", "_drive")
"""Verbs without the rules, for subclasses of ``Backend``."""


def attributes(tree: ast.AST) -> set[str]:
    """But not those of ``self``: what a driver has inherited is its own."""
    found = [item for item in ast.walk(tree) if isinstance(item, ast.Attribute)]
    return {item.attr for item in found if not (isinstance(item.value, ast.Name) and item.value.id == "self")}


def defined(tree: ast.AST) -> set[str]:
    """Methods of classes that are no protocols: those of drivers and of what wraps them."""
    classes = [item for item in ast.walk(tree) if isinstance(item, ast.ClassDef)]
    drivers = [one for one in classes if "Protocol" not in {ast.unparse(base) for base in one.bases}]
    return {item.name for one in drivers for item in one.body if isinstance(item, ast.FunctionDef)}


def called(tree: ast.AST) -> set[str]:
    return {item.func.id for item in ast.walk(tree) if isinstance(item, ast.Call) and isinstance(item.func, ast.Name)}


USED = {path: attributes(tree) - defined(tree) for path, tree in SOURCES.items()}
CALLED = {path: called(tree) for path, tree in SOURCES.items()}


@pytest.mark.parametrize("method", WRITES)
def test_what_writes_to_an_output_is_used_in_one_place(method: str) -> None:
    assert {path for path, names in USED.items() if method in names} == WRITES[method]


@pytest.mark.parametrize("name", DOORS)
def test_the_way_there_has_one_door(name: str) -> None:
    assert {path for path, names in CALLED.items() if name in names} == DOORS[name]


def test_nobody_outside_a_backend_calls_a_verb_that_does_not_ask_the_envelope() -> None:
    for path, tree in SOURCES.items():
        if path in ("hil/core/backend.py", "instruments/backend.py"):
            continue
        for item in ast.walk(tree):
            # Functions of the same name in other modules are called by their names; verbs only on some object.
            if isinstance(item, ast.Attribute) and item.attr in RULES:
                owner = ast.unparse(item.value)
                assert owner not in ("backend", "self.backend", "assembled.backend", "lab.backend"), (
                    f"{path}: {ast.unparse(item)}"
                )


def test_a_backend_adds_no_verb_that_writes() -> None:
    """The verbs of ``Backend`` are final; what its subclasses add in public is known here."""
    finals = {name for name in vars(Backend) if getattr(vars(Backend)[name], "__final__", False)}
    assert {"apply", "measure", "measure_replicas", "play", "make_safe", "wait", "restore_state", "close"} <= finals
    added = {name for name, one in vars(InstrumentBackend).items() if not name.startswith("_") and callable(one)}
    assert added == {"terminals", "snapshot", "usage"}
    for kind in (InstrumentBackend, SimulatedBackend):
        assert not finals & set(vars(kind))


def test_no_value_of_a_parameter_is_set_past_the_roles() -> None:
    """QCoDeS parameters are set by ``parameter(value)`` or ``.set``; the program only gets them."""
    for path, tree in SOURCES.items():
        if path != "instruments/prologix.py":  # bytes for the adapter itself, which is no instrument
            assert not {"set_raw", "write_raw", "set_to"} & USED[path], path
        for item in ast.walk(tree):
            if isinstance(item, ast.Call) and isinstance(item.func, ast.Attribute) and item.func.attr == "set":
                owner = ast.unparse(item.func.value)
                assert "param" not in owner, f"{path}:{item.lineno}: {ast.unparse(item)}"


# -- at run time: whatever the verb, a value outside writes nothing ------------------------------------------------

BAD = [9.0, float("nan"), -9.0]
POLICY = kit.POLICY
SWEEP = SettlePolicy(tolerance=1e-3, window=0.01, timeout=1.0, dwell=0.01)


def wave(level: float) -> Callable[[InstrumentBackend], object]:
    values = np.array([[0.1], [level]])
    moving = Waveform(np.array([0.0, 0.1]), values, np.ones((2, 1), dtype=np.bool_), 0.2)
    return lambda backend: backend.play(moving, np.array([0.15]))


def one(level: float) -> Stimulus:
    return Stimulus.of([level])


VERBS: dict[str, Callable[[float], Callable[[InstrumentBackend], object]]] = {
    "apply": lambda level: lambda backend: backend.apply(one(level)),
    "measure": lambda level: lambda backend: backend.measure([one(0.1), one(level)], POLICY),
    "sweep": lambda level: lambda backend: backend.measure([one(0.1), one(0.2), one(level)], SWEEP),
    "replicas": lambda level: lambda backend: backend.measure_replicas([[one(0.1), one(0.1)], [one(0.1), one(level)]], POLICY),
    "replica sweep": lambda level: lambda backend: backend.measure_replicas([[one(0.1), one(level)]] * 3, SWEEP),
    "play": wave,
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("level", BAD, ids=repr)
def test_no_verb_writes_a_value_outside_the_limits(
    bench: kit.Bench, verb: str, level: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = {"A": {"V": "smu.a.volt", "U": "smu.a.volt"}, "B": {"V": "smu.b.volt", "U": "smu.b.volt"}}
    output = OutputWire(Channel("U", Quantity.VOLTAGE, Kind.SENSE, node="x"), "smu.a.volt")
    limits = WaveformLimits(10, 10, 1e-3, 5.0)
    monkeypatch.setattr("instruments.backend.waveform_limits", lambda *_: limits)
    made = kit.make(bench, [ControlWire(kit.volt("V"), "smu.a.volt", 1e-5)], outputs=[output], replicas=paths)
    with made as backend:
        with pytest.raises(LimitExceededError, match=r"'V': .* is outside its limits"):
            VERBS[verb](level)(backend)
        assert bench.done("on", "level", "configure", "meter") == []


@pytest.mark.parametrize("verb", ["apply", "measure", "sweep"])
def test_no_verb_exceeds_a_limit_of_a_difference(bench: kit.Bench, verb: str) -> None:
    apart = Stimulus.of([1.0, -1.0])
    near = Stimulus.of([0.5, 0.0])
    verbs: dict[str, Callable[[Any], object]] = {
        "apply": lambda backend: backend.apply(apart),
        "measure": lambda backend: backend.measure([near, apart], POLICY),
        "sweep": lambda backend: backend.measure([near, near, apart], SWEEP),
    }
    with kit.two_volts(bench, edges=[EdgeLimit("e", "V1", "V2", 1.5)]) as backend:
        with pytest.raises(LimitExceededError, match="edge 'e'"):
            verbs[verb](backend)
        assert bench.done("on", "level") == []


def test_the_envelope_is_asked_before_anything_is_written(bench: kit.Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every level that was written lies on a ramp whose points were checked."""
    checked: list[np.ndarray[Any, Any]] = []
    original = SafetyEnvelope._check_edges

    def noted(envelope: SafetyEnvelope, rows: Any, *rest: Any) -> None:
        checked.append(np.atleast_2d(rows))
        original(envelope, rows, *rest)

    monkeypatch.setattr(SafetyEnvelope, "_check_edges", noted)
    with kit.two_volts(bench) as backend:
        backend.apply(Stimulus.of([1.0, -2.0]))
        backend.measure([Stimulus.of([3.0, 0.5])], POLICY)
        allowed = {round(float(value), 9) for rows in checked for value in rows.ravel()}
        written = {round(value, 9) for _, _, value in bench.done("level")}
    assert len(written) > 20
    assert written <= allowed | {0.0}
