"""All instruments of a plan, served around one plant, inside one process."""

from functools import partial
from zlib import crc32

import numpy as np

from hil.core.errors import ConfigError
from simulated_backend.virtual_bench.emulator import Emulator, create
from simulated_backend.virtual_bench.faults import FAULTS, LIQUID_FAULTS, PLANT_FAULTS, LineFaults, Order
from simulated_backend.virtual_bench.listeners import listeners
from simulated_backend.virtual_bench.plan import BenchPlan, about
from simulated_backend.virtual_bench.plant import Plant
from simulated_backend.virtual_bench.server import Line, Listener
from simulated_backend.virtual_bench.traffic import Traffic


class Bench:
    """Plant, emulators and their listeners. ConfigError where the plan does not fit together; nothing is served then."""

    def __init__(self, plan: BenchPlan) -> None:
        self.plant = Plant(plan)
        self.traffic = Traffic(ordered=not plan.real_time)
        self.lines: dict[str, Line] = {}
        self.happened: list[tuple[str, str]] = []
        """Instrument and fault, in the order in which they acted, since the last ``renew``."""
        self.before: dict[str, object] = {}
        """``voltages`` and ``sources`` of the plant right before a device was last damaged."""
        self.addresses: dict[str, str] = {}
        """Instrument -> VISA address, in the order of the plan."""
        self._listeners: list[Listener] = []
        emulators = {}
        with self.plant.lock:
            for instrument in plan.instruments:
                rng = np.random.default_rng([plan.seed, crc32(instrument.name.encode())])
                with about(instrument.name):
                    emulators[instrument.name] = create(instrument, self.plant, rng)
            self.plant.check_wires()
            self.plant.node_voltages()  # finds out now whether the network can be solved
        try:
            for instrument in plan.instruments:
                emulator = emulators[instrument.name]
                self.lines[instrument.name] = Line(
                    emulator,
                    self.plant.turn,
                    self.traffic,
                    LineFaults(partial(self._act, emulator), partial(self._note, emulator.name)),
                )
            for names, listener, addresses in listeners(plan.instruments, self.lines):
                self._listeners.append(listener)
                for name, address in zip(names, addresses, strict=True):
                    self.lines[name].drop = listener.drop
                    self.addresses[name] = address
        except ConfigError:
            self.stop()
            raise

    def start(self) -> None:
        """Serve all instruments."""
        for listener in self._listeners:
            listener.start()

    def inject(self, instrument: str, order: Order) -> None:
        """Put a fault on an instrument, or on the plant when that instrument is spoken to. ValueError where it cannot be."""
        if instrument not in self.lines:
            raise ValueError(f"there is no instrument {instrument!r} on the virtual bench; instruments: {', '.join(self.lines)}")
        if order.fault not in (*FAULTS, *LIQUID_FAULTS):
            raise ValueError(f"there is no fault {order.fault!r}; faults: {', '.join((*FAULTS, *LIQUID_FAULTS))}")
        if order.fault == "error" and type(self.lines[instrument].emulator).complain is Emulator.complain:
            raise ValueError(f"{instrument!r} has no error queue")
        with self.plant.lock:
            if order.fault in PLANT_FAULTS:
                self.plant.place(order.fault, order.where)
            elif order.fault in ("stuck", "drift") and not self._liquid(instrument, order):
                self.plant.output(instrument, order.where)
        self.lines[instrument].inject(order)

    @property
    def messages(self) -> dict[str, int]:
        """How many messages every instrument got since the last ``renew``."""
        return {name: line.faults.messages for name, line in self.lines.items()}

    def _note(self, instrument: str, fault: str) -> None:
        self.happened.append((instrument, fault))

    def _act(self, emulator: Emulator, order: Order) -> None:
        """Carry out a fault inside an instrument or in the plant; both locks are held."""
        if order.fault == "error":
            emulator.complain()
        elif order.fault in ("overflow", "nan"):
            emulator.broken.spoil(order.fault, order.amount)
        elif order.fault in PLANT_FAULTS:
            self.before = {"voltages": self.plant.node_voltages(), "sources": self.plant.sources()}
            self.plant.damage(order.fault, order.where, order.amount)
        elif order.fault == "empty":
            emulator.fill(order.amount)
        elif self._liquid(emulator.name, order):
            self.plant.lines.harm(order.fault, emulator.name, order.where, order.amount)
        else:
            self.plant.break_output(emulator.name, order.where, order.fault, order.amount)
            emulator.redrive()

    def _liquid(self, instrument: str, order: Order) -> bool:
        """Whether ``order`` is about a liquid line or a rotor."""
        port = (instrument, order.where)
        return port in self.plant.lines.lines or port in self.plant.lines.rotors

    def renew(self) -> None:
        """A new day: every fault mended, every instrument switched off and on, syringes filled, pressures at rest, extremes
        forgotten."""
        for line in self.lines.values():
            line.heal()
        self.happened.clear()
        with self.plant.lock:
            self.plant.mend()
            self.plant.lines.mend()
            for line in self.lines.values():
                line.emulator.broken.left = 0
                line.emulator.power_on()
                line.emulator.fill(None)
            self.plant.forget_extremes()

    def stop(self) -> None:
        """Stop serving."""
        for listener in self._listeners:
            listener.stop()
