"""Which listener serves which instruments: one each, but one adapter for all that stand on a GPIB bus."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from hil.core.errors import ConfigError
from simulated_backend.virtual_bench.emulator import transport_of
from simulated_backend.virtual_bench.hislip import HiSlipListener
from simulated_backend.virtual_bench.plan import InstrumentPlan, about
from simulated_backend.virtual_bench.prologix import PrologixListener
from simulated_backend.virtual_bench.server import Line, Listener, SerialListener, SocketListener
from simulated_backend.virtual_bench.vxi11 import Vxi11Listener

_SERVERS: Mapping[str, Callable[[Line, int, int], SocketListener]] = {
    "socket": SocketListener,
    "hislip": HiSlipListener,
    "vxi11": Vxi11Listener,
}
FIRST_GPIB, LAST_GPIB = 1, 30


def listeners(
    instruments: Sequence[InstrumentPlan], lines: Mapping[str, Line]
) -> Iterator[tuple[Sequence[str], Listener, Sequence[str]]]:
    """(names, their listener, their addresses); PlanError for an option that cannot be."""
    bus: dict[int, str] = {}
    for instrument in instruments:
        listener: Listener
        with about(instrument.name):
            transport = transport_of(instrument)
            if transport == "prologix":
                gpib = _whole(instrument, "gpib", next(n for n in range(FIRST_GPIB, LAST_GPIB + 2) if n not in bus))
                other = bus.setdefault(gpib, instrument.name)
                if other != instrument.name or not FIRST_GPIB <= gpib <= LAST_GPIB:
                    raise ConfigError(
                        f"instrument {instrument.name!r} cannot have GPIB address {gpib}: addresses are {FIRST_GPIB} to "
                        f"{LAST_GPIB}, each for one instrument (taken: {', '.join(map(str, bus))})"
                    )
                continue
            if transport == "serial":
                listener = SerialListener(lines[instrument.name])
            else:
                port, clients = _whole(instrument, "tcp_port", 0), _whole(instrument, "clients", 8)
                listener = _SERVERS[transport](lines[instrument.name], port, clients)
        yield (instrument.name,), listener, (listener.address,)
    if bus:
        adapter = PrologixListener({gpib: lines[name] for gpib, name in bus.items()})
        yield tuple(bus.values()), adapter, tuple(map(adapter.address_of, bus))


def _whole(instrument: InstrumentPlan, option: str, default: int) -> int:
    value = instrument.options.get(option)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f"option {option!r} of {instrument.name!r} must be a whole number, not {value!r}")
    return value
