"""The bench file: one lab, as data. Everything below is SI once the file has been read.

One file describes the instruments, the wiring, the limits, what we believe the network is (``twin``) and what only the
emulators know (``virtual``). The laws and drivers it names are looked up in ``hil.bench``, never here.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from hil.core.types import Quantity
from hil.experiment.addresses import may_be_address
from hil.experiment.bench_calibration import Calibration
from hil.experiment.bench_mixers import MixerModel
from hil.experiment.bench_model import LawChoice, Plant, PlantEdge, PlantNode, Scalar, TwinModel
from hil.experiment.bench_simulated import Simulated
from hil.experiment.bench_terminals import QUANTITIES, Control, Output, Terminal
from hil.experiment.fields import AsTuple, Name, Number, Pascals, Strict, Volts, choice, quantity, refuse, unknown


class Notebook(Strict):
    """What the experimenter writes at the top of the page; goes into every record."""

    operator: str = ""
    sample: str = ""
    electrolyte_lot: str = ""
    electrodes: str = ""
    temperature: str = ""
    remarks: str = ""


_PORT = re.compile(r"(?i)^\s*COM([0-9]+)\s*$")


def _address(value: object) -> object:
    if not isinstance(value, str):
        return value
    if not may_be_address(value):
        refuse(f"{value!r} is no VISA address; write for example 'TCPIP0::192.0.2.11::5025::SOCKET' or 'ASRL/dev/ttyUSB0::INSTR'")
    return _PORT.sub(r"ASRL\1::INSTR", value)  # drivers know a serial line, with its baud rate, by its address


class Instrument(Strict):
    """One instrument of the station. ``type`` is looked up in an allow-list before anything is imported.

    ``watchdog``: an instrument that can is told to stop by itself after so many seconds of silence.
    """

    type: str
    address: Annotated[str, BeforeValidator(_address)]
    options: dict[str, Scalar] = Field(default_factory=dict)
    watchdog: Annotated[float, quantity("s", above=0.0)] | None = None


class Station(Strict):
    """The instruments, by the name that parameters use."""

    instruments: dict[Name, Instrument] = Field(default_factory=dict)


class Virtual(Strict):
    """The virtual bench: seed, plant, and options of the emulators by instrument name."""

    seed: Annotated[int, Field(ge=0)] = 0
    plant: Plant = Field(default_factory=Plant)
    instruments: dict[Name, dict[str, Scalar]] = Field(default_factory=dict)


def _groups(value: object) -> object:
    if not isinstance(value, list):
        return value
    return tuple(tuple(entry) if isinstance(entry, list) else (entry,) for entry in value)


class EdgeLimits(Strict):
    """Largest difference across one edge, of voltage and of pressure."""

    voltage: Volts | None = None
    pressure: Pascals | None = None


class Interlock(Strict):
    """An input that permits sourcing while ``parameter`` (e.g. ``smu.digio.bit1``) reads ``expected`` (1: true)."""

    parameter: str
    expected: Number = 1.0


def _article(word: str) -> str:
    return f"{'an' if word[:1] in 'aeiou' else 'a'} {word}"


class BenchFile(Strict):
    """The whole file.

    ``ramp_order``: instruments or controls, those in one list together; the first ramps up first and comes down last.
    ``pressure_reference``: what all pressures of this file and of its controllers count from.
    ``housekeeping``: name -> instrument.port.parameter, read once a second beside the measurement. ``notify``: who is told when
    a run ends, by the ways of ``hil.notify``, each with its options.
    """

    format: Literal["hil-bench/1"]
    title: str = ""
    notebook: Notebook = Field(default_factory=Notebook)
    station: Station = Field(default_factory=Station)
    twin: TwinModel
    virtual: Virtual = Field(default_factory=Virtual)
    simulated: Simulated = Field(default_factory=Simulated)
    mixers: dict[Name, MixerModel] = Field(default_factory=dict)
    controls: dict[Name, Control]
    outputs: dict[Name, Output]
    pressure_reference: Annotated[str, choice("absolute", "gauge")] = "absolute"
    edge_limits: dict[Name, EdgeLimits] = Field(default_factory=dict)
    interlocks: dict[Name, Interlock] = Field(default_factory=dict)
    ramp_order: Annotated[tuple[tuple[Name, ...], ...], BeforeValidator(_groups)] = ()
    replicas: dict[Name, dict[Name, str]] = Field(default_factory=dict)
    simultaneous: Annotated[tuple[tuple[str, str], ...], AsTuple] = ()
    housekeeping: dict[Name, str] = Field(default_factory=dict)
    notify: dict[Name, dict[str, Scalar]] = Field(default_factory=dict)
    calibration: Calibration = Field(default_factory=Calibration)

    @model_validator(mode="before")
    @classmethod
    def _pairs(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and isinstance(data.get("simultaneous"), list):
            return {**data, "simultaneous": [tuple(p) if isinstance(p, list) else p for p in data["simultaneous"]]}
        return data

    @model_validator(mode="after")
    def _wired(self) -> Self:
        ports: dict[tuple[str, str], str] = {}
        driven: dict[tuple[str, Quantity], str] = {}
        for section, terminals in (("controls", self.controls), ("outputs", self.outputs)):
            for name, terminal in terminals.items():
                here = f"{section}.{name}"
                if terminal.node not in self.twin.nodes:
                    refuse(unknown("node", terminal.node, list(self.twin.nodes)), f"{here}.node")
                if terminal.instrument in self.mixers and section == "controls":
                    self._mixed(name, terminal)
                elif terminal.instrument not in self.station.instruments:
                    refuse(unknown("instrument", terminal.instrument, list(self.station.instruments)), f"{here}.parameter")
                other = ports.setdefault((terminal.parameter, section), name)
                if other != name and not self._share_a_meter(section, other, name):
                    refuse(f"{terminal.parameter} is used by {other!r} already; one parameter, one channel", f"{here}.parameter")
                if section == "controls":
                    twice = driven.setdefault((terminal.node, terminal.quantity), name)
                    if twice != name:
                        refuse(f"node {terminal.node!r} is driven by {twice!r} already", f"{here}.node")
        for name in self.controls:
            if name in self.outputs:
                refuse(f"{name!r} names a control and an output; give each a name of its own", f"outputs.{name}")
        if not self.outputs:
            refuse("a bench needs at least one output", "outputs")
        for part in self.twin.parts():
            held = any((node, Quantity.VOLTAGE) in driven or self.twin.nodes[node].ground for node in part)
            if not held:
                names = ", ".join(repr(name) for name in sorted(part))
                refuse(
                    f"no node of {names} is ground or driven by a voltage, so their potential floats; drive one of them",
                    "controls",
                )
        self._known_names()
        self._one_reference()
        self._crosspoints()
        self.order()
        return self

    def _one_reference(self) -> None:
        for name, control in self.controls.items():
            reference = str(control.setup.get("reference", self.pressure_reference))
            if reference not in ("absolute", "gauge"):
                refuse(unknown("choice", reference, ["absolute", "gauge"]), f"controls.{name}.setup.reference")
            if control.quantity is Quantity.PRESSURE and reference != self.pressure_reference:
                refuse(
                    f"{name!r} is {_article(reference)} pressure and the bench counts {self.pressure_reference} ones "
                    "(`pressure_reference`); only differences act, so give all the same reference",
                    f"controls.{name}.setup.reference",
                )

    def _mixed(self, name: str, control: Terminal) -> None:
        mixer, here = self.mixers[control.instrument], f"controls.{name}"
        if control.port not in mixer.outlets or control.quantity is not Quantity.CONCENTRATION:
            known = ", ".join(f"{control.instrument}.{outlet}.concentration" for outlet in mixer.outlets)
            refuse(f"{control.parameter} is no concentration of that mixer; known: {known}", f"{here}.parameter")
        low, high = mixer.span()
        if not low <= self.controls[name].limits[0] < self.controls[name].limits[1] <= high:
            refuse(f"the stocks of {control.instrument!r} mix to {low:g} … {high:g} mol/m^3 only", f"{here}.limits")
        for pump, most in mixer.most(*self.controls[name].limits).items():
            if most > mixer.pumps[pump].syringe.volume:
                refuse(
                    f"one exchange within the limits of {name!r} takes up to {1e6 * most:.3g} mL of it; take a larger syringe, a "
                    "smaller reservoir or less flush",
                    f"mixers.{control.instrument}.pumps.{pump}.syringe.volume",
                )

    def _share_a_meter(self, section: str, one: str, other: str) -> bool:
        """Whether two outputs reach the same meter through a switch matrix."""
        return section == "outputs" and bool(self.outputs[one].through and self.outputs[other].through)

    def _crosspoints(self) -> None:
        used: dict[str, str] = {}
        for name, output in self.outputs.items():
            if not output.through:
                continue
            here = f"outputs.{name}.through"
            if output.through.split(".")[0] not in self.station.instruments or output.through.count(".") != 1:
                refuse("write instrument.crosspoint of a switch matrix in the station, for example matrix.1A02", here)
            if used.setdefault(output.through, name) != name:
                refuse(f"{output.through} is used by {used[output.through]!r} already; one crosspoint, one output", here)
            if self.replicas:
                refuse("replicas are wired directly; leave the switch matrix out", here)

    def order(self) -> tuple[tuple[str, ...], ...]:
        """``ramp_order`` with every instrument replaced by its controls; FieldError-like refusal of an unknown name."""
        found = []
        for place, group in enumerate(self.ramp_order):
            members: list[str] = []
            for name in group:
                if name in self.controls:
                    members.append(name)
                elif name in self.station.instruments:
                    members += [key for key, control in self.controls.items() if control.instrument == name]
                else:
                    refuse(
                        unknown("instrument or control", name, [*self.station.instruments, *self.controls]), f"ramp_order.{place}"
                    )
            found.append(tuple(members))
        return tuple(found)

    def _known_names(self) -> None:
        for section, names, known in (
            ("edge_limits", self.edge_limits, self.twin.edges),
            ("virtual.plant.edges", self.virtual.plant.edges, self.twin.edges),
            ("virtual.plant.nodes", self.virtual.plant.nodes, self.twin.nodes),
            ("virtual.instruments", self.virtual.instruments, self.station.instruments),
        ):
            for name in names:
                if name not in known:
                    what = section.rsplit(".", 1)[-1].removesuffix("_limits").rstrip("s")
                    refuse(unknown(what, name, list(known)), f"{section}.{name}")
        trusted = self.calibration.reference
        if trusted is not None and trusted not in self.outputs:
            refuse(unknown("output", trusted, list(self.outputs)), "calibration.reference")
        for name in self.virtual.plant.heights:
            pressures = [key for key, one in self.controls.items() if one.quantity is Quantity.PRESSURE]
            if name not in pressures:
                refuse(unknown("pressure control", name, pressures), f"virtual.plant.heights.{name}")
        for name, parameter in self.housekeeping.items():
            instrument = parameter.split(".")[0]
            if instrument not in self.station.instruments or "." not in parameter:
                refuse(unknown("instrument", instrument, list(self.station.instruments)), f"housekeeping.{name}")
        used: dict[str, str] = {}
        for mixer_name, mixer in self.mixers.items():
            for part in (*mixer.pumps, mixer.valve):
                if part not in self.station.instruments:
                    refuse(unknown("instrument", part, list(self.station.instruments)), f"mixers.{mixer_name}")
                if used.setdefault(part, mixer_name) != mixer_name or mixer_name in self.station.instruments:
                    refuse(f"{part!r} or the name {mixer_name!r} is used elsewhere already", f"mixers.{mixer_name}")
        for name, interlock in self.interlocks.items():
            instrument = interlock.parameter.split(".")[0]
            if instrument not in self.station.instruments:
                refuse(unknown("instrument", instrument, list(self.station.instruments)), f"interlocks.{name}.parameter")
        for pair in self.simultaneous:
            for name in pair:
                if name not in self.replicas:
                    refuse(unknown("replica", name, list(self.replicas)), "simultaneous")


__all__ = [
    "QUANTITIES",
    "BenchFile",
    "Control",
    "EdgeLimits",
    "Interlock",
    "LawChoice",
    "Output",
    "Plant",
    "PlantEdge",
    "PlantNode",
    "Terminal",
    "TwinModel",
    "Virtual",
]
