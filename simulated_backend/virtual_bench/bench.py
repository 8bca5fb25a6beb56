"""All instruments of a plan, served around one plant, inside one process."""

from collections.abc import Mapping
from zlib import crc32

import numpy as np

from hil.core.errors import ConfigError
from simulated_backend.virtual_bench.emulator import create, transport_of
from simulated_backend.virtual_bench.plan import BenchPlan, InstrumentPlan
from simulated_backend.virtual_bench.plant import Plant
from simulated_backend.virtual_bench.server import Line, Listener, SerialListener, SocketListener
from simulated_backend.virtual_bench.traffic import Traffic


class Bench:
    """Plant, emulators and their listeners. ConfigError where the plan does not fit together; nothing is served then."""

    def __init__(self, plan: BenchPlan) -> None:
        self.plant = Plant(plan)
        self.traffic = Traffic(ordered=not plan.real_time)
        self.lines: dict[str, Line] = {}
        self.listeners: dict[str, Listener] = {}
        emulators = {}
        with self.plant.lock:
            for instrument in plan.instruments:
                rng = np.random.default_rng([plan.seed, crc32(instrument.name.encode())])
                emulators[instrument.name] = create(instrument, self.plant, rng)
            self.plant.check_wires()
            self.plant.node_voltages()  # finds out now whether the network can be solved
        try:
            for instrument in plan.instruments:
                line = Line(emulators[instrument.name], self.plant.lock, self.traffic)
                self.lines[instrument.name] = line
                self.listeners[instrument.name] = _listener(instrument, line)
        except ConfigError:
            self.stop()
            raise

    @property
    def addresses(self) -> Mapping[str, str]:
        """Instrument -> VISA address."""
        return {name: listener.address for name, listener in self.listeners.items()}

    def start(self) -> None:
        """Serve all instruments."""
        for listener in self.listeners.values():
            listener.start()

    def stop(self) -> None:
        """Stop serving."""
        for listener in self.listeners.values():
            listener.stop()


def _listener(instrument: InstrumentPlan, line: Line) -> Listener:
    if transport_of(instrument) == "serial":
        return SerialListener(line)
    port, clients = instrument.options.get("tcp_port") or 0, instrument.options.get("clients") or 8
    if not isinstance(port, int) or not isinstance(clients, int):
        raise ConfigError(f"options 'tcp_port' and 'clients' of {instrument.name!r} must be whole numbers")
    return SocketListener(line, port, clients)
