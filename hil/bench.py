"""The composition root: bench file + target -> backend, twin, clock. The only importer of instruments and simulator.

``simulated``: the wired controls and the tunable properties act on the twin's network. ``virtual``: the same drivers and
wiring as on the bench, on emulated instruments in a child process; only the addresses differ. ``bench``: the hardware.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from hil.bench_layout import control_channels, envelope, output_channels, tunable_channels
from hil.bench_network import node_rest, plant_network, present_values, twin_network
from hil.core.backend import Backend
from hil.core.clock import Clock, SteppedClock, WallClock
from hil.core.errors import ConfigError, HilError, InstrumentError
from hil.core.twin import Twin
from hil.core.types import Layout, Stimulus
from hil.experiment.bench_file import BenchFile, Terminal
from hil.experiment.fields import FieldError, unknown
from hil.experiment.units import parse

if TYPE_CHECKING:
    from instruments.wiring import ControlWire, InstrumentSpec, OutputWire
    from simulated_backend.network import Network
    from simulated_backend.virtual_bench.plan import BenchPlan

Warn = Callable[[str], None]


class Target(StrEnum):
    """What a protocol runs on."""

    SIMULATED = "simulated"
    VIRTUAL = "virtual"
    BENCH = "bench"


@dataclass
class Assembled:
    """A laboratory that is put together but not opened. ``virtual`` is the running virtual bench on that target.

    ``network``: what we believe (the twin's). Closing it ends the virtual bench; the backend is closed by its own context.
    """

    backend: Backend
    twin: Twin
    clock: Clock
    network: "Network"
    warnings: "Relay"
    virtual: Any = None
    stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stack.close()


class Relay:
    """Warnings of a backend: kept until somebody listens, then passed on."""

    def __init__(self) -> None:
        self._kept: list[str] = []
        self._listener: Warn | None = None

    def __call__(self, message: str) -> None:
        """Pass ``message`` on, or keep it."""
        if self._listener is None:
            self._kept.append(message)
        else:
            self._listener(message)

    def listen(self, listener: Warn) -> None:
        """Send everything to ``listener`` from now on, what was kept first."""
        self._listener = listener
        for message in self._kept:
            listener(message)
        self._kept.clear()


def assemble(
    bench: BenchFile,
    target: Target,
    *,
    name: str = "",
    tuned_as: Mapping[str, str] | None = None,
    seed: int | None = None,
    real_time: bool = False,
) -> Assembled:
    """Put the lab together; nothing is applied, and on ``bench`` nothing is connected before the backend is opened.

    ``tuned_as``: see ``hil.experiment.protocol.Protocol.tuned_as``. ``seed`` goes before ``virtual.seed``. Raises
    ConfigError (FieldError where one field is to blame), and InstrumentError when the virtual bench does not start.
    """
    check_packages()
    network = twin_network(bench)
    rest = node_rest(network)
    wired = control_channels(bench, rest)
    outputs = Layout(output_channels(bench))
    check_wiring(bench, Layout(wired), outputs)
    relay = Relay()
    chosen_seed = bench.virtual.seed if seed is None else seed
    if target is Target.SIMULATED:
        controls = Layout((*wired, *tunable_channels(bench, present_values(network), rest, tuned_as or {}, wired)))
        return _simulated(bench, network, controls, outputs, relay, name, chosen_seed, real_time)
    return _instruments(bench, network, Layout(wired), outputs, relay, name, chosen_seed, real_time, target)


def _simulated(
    bench: BenchFile,
    network: "Network",
    controls: Layout,
    outputs: Layout,
    relay: Relay,
    name: str,
    seed: int,
    real_time: bool,
) -> Assembled:
    from simulated_backend.backend import SimulatedBackend
    from simulated_backend.twin import SimulatedTwin

    clock = WallClock() if real_time else SteppedClock()
    backend = SimulatedBackend(network, controls, outputs, envelope(bench, controls, name), clock=clock, seed=seed, warn=relay)
    return Assembled(backend, SimulatedTwin(network, controls, outputs), clock, network, relay)


def _instruments(
    bench: BenchFile,
    network: "Network",
    controls: Layout,
    outputs: Layout,
    relay: Relay,
    name: str,
    seed: int,
    real_time: bool,
    target: Target,
) -> Assembled:
    from simulated_backend.twin import SimulatedTwin

    from instruments.backend import InstrumentBackend

    specs = instrument_specs(bench)
    stack = ExitStack()
    virtual: Any = None
    clock: Clock = WallClock()
    try:
        if target is Target.VIRTUAL:
            virtual = start_virtual(bench, seed, real_time=real_time)
            stack.callback(virtual.stop)
            specs = instrument_specs(bench, virtual.addresses)
            clock = virtual.clock
        backend = InstrumentBackend(
            name or target.value,
            specs,
            control_wires(bench, controls),
            output_wires(bench, outputs),
            envelope(bench, controls, name),
            clock,
            replicas=bench.replicas,
            simultaneous=bench.simultaneous,
            warn=relay,
        )
    except BaseException:
        stack.close()
        raise
    return Assembled(backend, SimulatedTwin(network, controls, outputs), clock, network, relay, virtual, stack)


def check_packages() -> None:
    """ConfigError when the ``instruments`` package that Python finds is another project's."""
    import instruments

    if getattr(instruments, "MEMRISTOR_HIL", False) is not True:
        where = getattr(instruments, "__file__", None) or next(iter(getattr(instruments, "__path__", ["?"])), "?")
        raise ConfigError(
            f"the Python package 'instruments' found at {where} belongs to another project (InstrumentKit uses the same name); "
            "uninstall that one, or install memristor-hil in a virtual environment of its own"
        )


def check_wiring(bench: BenchFile, controls: Layout, outputs: Layout) -> None:
    """Drivers against the allow-list, options, addresses, settings: all that can be judged without opening anything.

    Raises ConfigError. It is done for every target, because the same bench file has to serve all of them.
    """
    from instruments.station import check_station

    check_station(instrument_specs(bench), control_wires(bench, controls), output_wires(bench, outputs))


def instrument_specs(bench: BenchFile, addresses: Mapping[str, str] | None = None) -> "tuple[InstrumentSpec, ...]":
    """The instruments of the station; ``addresses`` replaces those of the file."""
    from instruments.wiring import InstrumentSpec

    return tuple(
        InstrumentSpec(name, spec.type, (addresses or {}).get(name, spec.address), spec.options)
        for name, spec in bench.station.instruments.items()
    )


def control_wires(bench: BenchFile, controls: Layout) -> "tuple[ControlWire, ...]":
    """Every wired control with its instrument parameter."""
    from instruments.wiring import ControlWire

    return tuple(
        ControlWire(controls[name], wire.parameter, wire.compliance, setup(wire, f"controls.{name}.setup"))
        for name, wire in bench.controls.items()
    )


def output_wires(bench: BenchFile, outputs: Layout) -> "tuple[OutputWire, ...]":
    """Every output with its instrument parameter."""
    from instruments.wiring import OutputWire

    return tuple(
        OutputWire(outputs[name], wire.parameter, setup(wire, f"outputs.{name}.setup")) for name, wire in bench.outputs.items()
    )


def setup(wire: Terminal, where: str) -> dict[str, float | int | bool | str]:
    """Settings of one terminal in SI; FieldError naming an unknown setting or a wrong unit."""
    from instruments.wiring import SETUP_UNITS

    settings: dict[str, float | int | bool | str] = {}
    for key, value in wire.setup.items():
        if key not in SETUP_UNITS:
            raise FieldError(unknown("setting", key, list(SETUP_UNITS)), f"{where}.{key}")
        unit = SETUP_UNITS[key]
        if unit is None:
            settings[key] = value
            continue
        try:
            settings[key] = parse(value, unit or wire.quantity.value)
        except ConfigError as error:
            raise FieldError(str(error), f"{where}.{key}") from None
    return settings


def virtual_plan(bench: BenchFile, seed: int, *, real_time: bool = False) -> "BenchPlan":
    """What the child process needs: emulators named after the driver classes, wires, and the network of the world."""
    from simulated_backend.description import describe
    from simulated_backend.virtual_bench.plan import BenchPlan, InstrumentPlan, Wire

    emulators = tuple(
        InstrumentPlan(name, spec.type.rsplit(".", 1)[-1], bench.virtual.instruments.get(name, {}))
        for name, spec in bench.station.instruments.items()
    )
    terminals: Sequence[Terminal] = [*bench.controls.values(), *bench.outputs.values()]
    wires = dict.fromkeys(Wire(terminal.instrument, terminal.port, terminal.node) for terminal in terminals)
    return BenchPlan(
        emulators,
        tuple(wires),
        describe(plant_network(bench, seed)),
        ideal=bench.virtual.plant.ideal,
        seed=seed,
        real_time=real_time,
    )


def start_virtual(bench: BenchFile, seed: int | None = None, *, real_time: bool = False) -> Any:
    """Start the virtual bench of ``bench`` in a child process; stop it with ``.stop()``."""
    from simulated_backend.virtual_bench.process import VirtualBench

    return VirtualBench.start(virtual_plan(bench, bench.virtual.seed if seed is None else seed, real_time=real_time))


def shipped_protocols() -> Path:
    """Folder of the protocols that come with the program (in the source tree and in an installed wheel alike)."""
    return Path(__file__).resolve().parent.parent / "protocols"


def visa_resources() -> tuple[str, ...]:
    """Addresses that VISA can list (serial ports, USB, GPIB; sockets cannot be listed)."""
    import warnings

    import pyvisa

    try:
        with warnings.catch_warnings():
            # pyvisa-py warns about every bus library that is not installed; that is not what was asked.
            warnings.simplefilter("ignore")
            return tuple(pyvisa.ResourceManager().list_resources("?*"))
    except (pyvisa.errors.Error, OSError, ValueError) as error:
        raise InstrumentError(f"VISA cannot list its resources: {error}") from error


def identify(bench: BenchFile) -> Iterator[tuple[str, str, str]]:
    """Open every instrument in turn, ask who it is, close it: (name, identity, problem); one of the two is empty."""
    from instruments.station import check_station, driver_class

    specs = instrument_specs(bench)
    check_station(specs, (), ())
    for spec in specs:
        try:
            instrument: Any = driver_class(spec)(spec.name, spec.address, **spec.options)
        except (HilError, OSError) as error:
            yield spec.name, "", str(error)
            continue
        try:
            yield spec.name, str(instrument.identity() if hasattr(instrument, "identity") else instrument.get_idn()), ""
        finally:
            instrument.close()


def terminal_loads(virtual: Any, bench_wires: Sequence[Any]) -> dict[str, tuple[float, float]]:
    """Node -> conductance to ground (S) and bias current into the node (A) of all terminals on it, as they are set now.

    A terminal that holds its node at a voltage takes nothing away from it and is left out.
    """
    state = virtual.side_door.sources()
    loads: dict[str, tuple[float, float]] = {}
    for wire in bench_wires:
        terminal = state.get(wire.instrument, {}).get(wire.port)
        if terminal is None or terminal["source"] == "VoltageSource":
            continue
        shunt, bias = loads.get(wire.node, (0.0, 0.0))
        resistance = terminal["input_resistance"]
        loads[wire.node] = (shunt + (0.0 if resistance is None else 1.0 / resistance), bias + terminal["bias_current"])
    return loads


def loading(assembled: Assembled, stimulus: Stimulus) -> dict[str, dict[str, float]]:
    """What the terminals take away at ``stimulus``: the network solved with and without their loads.

    Node -> unloaded and loaded voltage (V), relative difference, resistance (ohm) and bias current (A) of the terminals.
    Raises NotConvergedError when one of the two has no operating point.
    """
    from simulated_backend.loading import loading as compare

    loads = terminal_loads(assembled.virtual, assembled.virtual.plan.wires)
    return compare(assembled.network, assembled.backend.capabilities.controls, stimulus, loads)
