"""The composition root: bench file + target -> backend, twin, clock. The only importer of instruments and simulator.

``simulated``: the wired controls and the tunable properties act on the twin's network. ``virtual``: the same drivers and
wiring as on the bench, on emulated instruments in a child process; only the addresses differ. ``bench``: the hardware.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from hil.bench_layout import control_channels, envelope, output_channels, tightened, tunable_channels
from hil.bench_mixers import mixer_specs
from hil.bench_network import node_rest, present_values, twin_network
from hil.bench_station import (
    check_packages,
    check_wiring,
    control_wires,
    instrument_specs,
    interlock_wires,
    output_wires,
    start_virtual,
)
from hil.bench_world import mounting, mounting_on, simulated_world
from hil.calibration import corrections
from hil.core.backend import Backend
from hil.core.clock import Clock, SteppedClock, WallClock
from hil.core.errors import ConfigError
from hil.core.events import EventStream
from hil.core.file_lock import Held
from hil.core.safety import SafetyEnvelope
from hil.core.twin import Twin
from hil.core.types import Layout
from hil.experiment.bench_file import BenchFile
from hil.experiment.fields import FieldError, ProtocolFieldError
from hil.experiment.loader import Document, find, read
from hil.experiment.protocol import Protocol
from hil.housekeeping import Housekeeper, PausingClock
from hil.stock_book import StockBook, book_of_bench

if TYPE_CHECKING:
    from instruments.housekeeping import Watched
    from simulated_backend.network import Network

Warn = Callable[[str], None]


class Target(StrEnum):
    """What a protocol runs on."""

    SIMULATED = "simulated"
    VIRTUAL = "virtual"
    BENCH = "bench"


@dataclass
class Assembled:
    """A laboratory that is put together but not opened. ``virtual`` is the running virtual bench on that target.

    ``network``: what we believe (the twin's); ``exchange``: see ``hil.core.lab.Lab``; ``stocks``: the book of syringes. Closing
    it ends the virtual bench; the backend is closed by its own context.
    """

    backend: Backend
    twin: Twin
    clock: Clock
    network: "Network"
    warnings: "Relay"
    virtual: Any = None
    stack: ExitStack = field(default_factory=ExitStack)
    exchange: Callable[[int], None] | None = None
    pausing: PausingClock | None = None
    housekeeping: tuple[tuple[str, str], ...] = ()
    stocks: StockBook | None = None

    def housekeeper(self, events: EventStream) -> Housekeeper | None:
        """What looks at the housekeeping of the bench file; None where there are no instruments, or nothing to look at.

        The backend must be open. Raises ConfigError for a parameter that cannot be read.
        """
        watched = self.watched()
        return None if self.pausing is None or watched is None else Housekeeper(watched.read, self.pausing, events)

    def watched(self) -> "Watched | None":
        """The parameters of the housekeeping; as ``housekeeper``."""
        if self.pausing is None or not self.housekeeping:
            return None
        from instruments.housekeeping import Watched

        return Watched(self.housekeeping)

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
    limits: Protocol | None = None,
    folder: Path | None = None,
    keeps: Sequence[Held] = (),
) -> Assembled:
    """Put the lab together; nothing is applied, and on ``bench`` nothing is connected before the backend is opened.

    ``limits``: a protocol whose limits tighten those of the bench file. ``folder``: where the guard process of a bench keeps
    its log and its emergency stop (None: the temporary folder), ``keeps``: see there. ``tuned_as``: see
    ``hil.experiment.protocol.Protocol.tuned_as``. ``seed`` goes before ``virtual.seed``. Raises ConfigError (FieldError where
    one field is to blame), and InstrumentError when the virtual bench does not start.
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
        allowed = _envelope(bench, controls, name, limits)
        _, said = corrections(bench, target.value)
        if said:
            relay(said)
        return _simulated(bench, network, allowed, outputs, relay, chosen_seed, real_time)
    allowed = _envelope(bench, Layout(wired), name, limits)
    return _instruments(bench, network, allowed, outputs, relay, name, chosen_seed, real_time, target, folder, keeps)


def _envelope(bench: BenchFile, controls: Layout, name: str, limits: Protocol | None) -> SafetyEnvelope:
    """What the bench file allows, tightened by the protocol; its layout carries the tightened limits into the instruments."""
    base = envelope(bench, controls, name)
    if limits is None or not (limits.limits or limits.edge_limits):
        return base
    try:
        return base.narrowed(envelope(bench, tightened(controls, limits.limits), "the protocol", limits.edge_limits))
    except ConfigError as error:
        raise ProtocolFieldError(str(error), error.field if isinstance(error, FieldError) else "edge_limits") from None


def _simulated(
    bench: BenchFile,
    network: "Network",
    allowed: SafetyEnvelope,
    outputs: Layout,
    relay: Relay,
    seed: int,
    real_time: bool,
) -> Assembled:
    from simulated_backend.backend import SimulatedBackend
    from simulated_backend.twin import SimulatedTwin

    clock = WallClock() if real_time else SteppedClock()
    world = simulated_world(bench, seed)
    backend = SimulatedBackend(
        next(iter(world["replicas"].values())) if "replicas" in world else network,
        allowed.layout,
        outputs,
        allowed,
        clock=clock,
        seed=seed,
        warn=relay,
        **world,
    )
    exchange = mounting(bench, backend, seed) if "replicas" in world else None
    return Assembled(backend, SimulatedTwin(network, allowed.layout, outputs), clock, network, relay, exchange=exchange)


def _instruments(
    bench: BenchFile,
    network: "Network",
    allowed: SafetyEnvelope,
    outputs: Layout,
    relay: Relay,
    name: str,
    seed: int,
    real_time: bool,
    target: Target,
    folder: Path | None,
    keeps: Sequence[Held],
) -> Assembled:
    from instruments.backend import InstrumentBackend
    from instruments.guard_process import Guard
    from simulated_backend.twin import SimulatedTwin

    specs = instrument_specs(bench)
    calibration, said = corrections(bench, target.value, seed if target is Target.VIRTUAL else None)
    if said:
        relay(said)
    stocks = StockBook(bench, book_of_bench(folder, name) if target is Target.BENCH and folder is not None and name else None)
    for sentence in stocks.sentences():
        relay(sentence)
    stack = ExitStack()
    virtual: Any = None
    clock: Clock = WallClock()
    try:
        if target is Target.VIRTUAL:
            virtual = start_virtual(bench, seed, real_time=real_time)
            stack.callback(virtual.stop)
            specs = instrument_specs(bench, virtual.addresses)
            clock = virtual.clock
        clock = pausing = PausingClock(clock)
        backend = InstrumentBackend(
            name or target.value,
            specs,
            control_wires(stocks.bench, allowed.layout),
            output_wires(bench, outputs),
            allowed,
            clock,
            replicas=bench.replicas,
            simultaneous=bench.simultaneous,
            warn=relay,
            # In stepped time the instruments end with the program: there is nothing to guard.
            guard=Guard(folder, keeps) if target is Target.BENCH or real_time else None,
            interlocks=interlock_wires(bench),
            ramp_order=bench.order(),
            mixers=mixer_specs(stocks.bench, stocks),
            corrections=calibration,
            book=stocks,
        )
    except BaseException:
        stack.close()
        raise
    exchange = None if virtual is None else mounting_on(virtual, bench, backend, seed)
    twin = SimulatedTwin(network, allowed.layout, outputs)
    seen = tuple(bench.housekeeping.items())
    return Assembled(backend, twin, clock, network, relay, virtual, stack, exchange, pausing, seen, stocks)


def bench_document(name: str, sets: Sequence[str] = ()) -> Document:
    """The bench file called ``name``, a path or a shipped one, with the fields of ``sets`` (path=value) changed; ConfigError."""
    document = read(find(name, None, shipped_protocols() / "benches", "bench file"))
    for setting in sets:
        path, equals, text = setting.partition("=")
        if not equals:
            raise ConfigError(f"--set {setting}: write --set path=value")
        document.override(path.strip().removeprefix("bench."), text, f"--set {setting}")
    return document


def shipped_protocols() -> Path:
    """Folder of the protocols that come with the program (in the source tree and in an installed wheel alike)."""
    return Path(__file__).resolve().parent.parent / "protocols"
