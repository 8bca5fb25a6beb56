"""Concentration as something one applies: two pumps with stocks, a common line, and a valve that leads to one node at a time.

To give a node another concentration the valve turns to it, both pumps deliver the exchange volume in the ratio that mixes it,
stop by themselves, and the valve goes back to the position that isolates: liquid lines conduct, so nothing is read while one
is joined. What was used is booked as the pumps count it, and before it flows as it was ordered, which is also told to whoever
keeps the book: an exchange that fails, or a program that is killed, leaves no more in the syringes than there is.

Two pumps of which one fails mix something else with every second: an exchange ends as soon as that is seen. A pump that does not
stop is led to waste, where the valve has such a position; without one the valve stays, because a shut line would burst.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from math import nan
from typing import Any

from hil.core.clock import Clock
from hil.core.errors import ConfigError, InstrumentError
from hil.core.types import Quantity, SafeAction
from hil.experiment.fields import FieldError
from instruments.fluid_roles import SHORT, FlowController, Pump, SelectorValve
from instruments.mixer_delivery import LOOK_EVERY, Delivery
from instruments.mixer_spec import TURN_LOOK, MixerSpec, Stock, needs_exchange
from instruments.roles import Condition, SourcePlan, SourceState
from instruments.safe_commands import HardwareWatchdog
from instruments.wiring import InstrumentSpec

TURN_PATIENCE, TELL_AGAIN = 15.0, 3.0
"""s that a valve may take; after which one that rests elsewhere is told again (it answers nothing, so that an order may get lost
unseen)."""
TRIES, REFUSED = 3, 30.0
"""How often a pump that does not stop is told so on the way home, and s after the last time until it is told anew; every time
costs its time-outs."""


@dataclass
class _Session:
    """What a mixer shows of the links of its parts."""

    parts: Sequence[Any]

    @property
    def failed(self) -> bool:
        """Whether one of them has just failed."""
        return any(bool(part.session.failed) for part in self.parts)


@dataclass(eq=False)
class Outlet:
    """One node's side of a mixer: a source of concentration. ``level``: what its reservoir holds, None where nobody knows."""

    mixer: "Mixer"
    name: str
    position: int
    level: float | None = None
    exchanges: int = 0
    exchanged_at: float | None = None

    def source_quantities(self) -> Mapping[str, Quantity]:
        """Concentration through ``concentration``."""
        return {"concentration": Quantity.CONCENTRATION}

    def configure_source(self, plan: SourcePlan) -> Sequence[str]:
        """Syringes told and read back, the valve closed. ConfigError for limits that the stocks cannot mix."""
        low, high = (stock.concentration for stock in self.mixer.spec.stocks)
        if not low <= plan.minimum <= plan.maximum <= high:
            raise ConfigError(
                f"{self.mixer.spec.name}.{self.name}: stocks of {low:g} and {high:g} mol/m^3 do not mix to "
                f"all of {plan.minimum:g} … {plan.maximum:g} mol/m^3; narrow the limits or prepare other stocks"
            )
        warnings = self.mixer.prepare()
        for level in (plan.minimum, plan.maximum):
            self.mixer.check_rates(level)
        return warnings

    def source_state(self) -> SourceState:
        """What was last mixed; a reservoir needs no output that is on."""
        return SourceState(nan if self.level is None else self.level, nan, False)

    def enable(self, level: float) -> None:
        """Nothing flows before a concentration is asked for."""

    def disable(self, action: SafeAction) -> None:
        """Pumps stopped and, where the valve turns, every node isolated; whatever ``action`` says."""
        self.mixer.leave()


@dataclass(eq=False)
class Mixer:
    """The composite, on open drivers. ``watchdogs``: pump -> s of silence after which it stops by itself.

    ``also``: what else has to be so while liquid flows (interlocks, the guard); raises where it is not.
    """

    spec: MixerSpec
    pumps: Mapping[str, Pump]
    valve: SelectorValve
    clock: Clock
    watchdogs: Mapping[str, float]
    left: dict[str, float] = field(default_factory=dict)
    exchanges: int = 0
    seconds: float = 0.0
    also: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        self.outlets = {name: Outlet(self, name, position) for name, position in self.spec.outlets.items()}
        self.left = {stock.pump: stock.volume for stock in self.spec.stocks}
        self.session = _Session([*self.pumps.values(), self.valve])
        self._prepared = False
        self._refused: list[tuple[float, str]] = []

    @classmethod
    def of(cls, spec: MixerSpec, components: Mapping[str, Any], clock: Clock, specs: Sequence[InstrumentSpec]) -> "Mixer":
        """On the drivers of an open station; ConfigError where one is no pump or no valve."""
        pumps: dict[str, Pump] = {}
        for stock in spec.stocks:
            pump = components[stock.pump]
            if not isinstance(pump, Pump):
                raise ConfigError(f"mixer {spec.name!r}: {stock.pump!r} is a {type(pump).__name__}, which is no pump")
            if stock.syringe.diameter == 0.0 and not isinstance(pump, FlowController):
                raise FieldError(
                    f"say the diameter of the syringe in pump {stock.pump!r}",
                    f"mixers.{spec.name}.pumps.{stock.pump}.syringe.diameter",
                )
            pumps[stock.pump] = pump
        valve = components[spec.valve]
        if not isinstance(valve, SelectorValve):
            raise ConfigError(f"mixer {spec.name!r}: {spec.valve!r} is a {type(valve).__name__}, which is no selector valve")
        return cls(spec, pumps, valve, clock, {one.name: one.watchdog for one in specs if one.watchdog is not None})

    # What a bench sees of an instrument ------------------------------------------------------------------------------

    def port(self, name: str) -> Outlet:
        """The outlet of that name; ConfigError names those there are."""
        if name not in self.outlets:
            raise ConfigError(f"mixer {self.spec.name!r} has no outlet {name!r}; outlets: {', '.join(self.outlets)}")
        return self.outlets[name]

    def identity(self) -> str:
        """Its parts."""
        return f"mixer of {', '.join(self.pumps)} and {self.spec.valve}"

    def errors(self) -> list[str]:
        """Its parts keep their own."""
        return []

    def settings(self) -> Mapping[str, object]:
        """Stocks, flow, volumes, and what was used so far."""
        return {"flow_m3_per_s": self.spec.flow, "exchange_m3": self.spec.volume, **self.usage()}

    def level_writer(self, ports: Sequence[str]) -> Callable[[Sequence[float]], None]:
        """Exchanges at all outlets that do not have their concentration yet, one after the other."""
        outlets = [self.port(name) for name in ports]

        def write(levels: Sequence[float]) -> None:
            for outlet, level in zip(outlets, levels, strict=True):
                if needs_exchange(outlet.level, level):
                    self._exchange(outlet, level)

        return write

    def condition_reader(self, ports: Sequence[str]) -> Callable[[], list[Condition]]:
        """What is in the reservoirs; asks the pumps (at rest, without alarm?) and the valve, which must isolate every node."""
        outlets = [self.port(name) for name in ports]

        def look() -> list[Condition]:
            for name, pump in self.pumps.items():
                if pump.pump_state().running:
                    raise InstrumentError(f"mixer {self.spec.name!r}: pump {name!r} runs although nothing is being exchanged")
            place = self.valve.position_now()
            if place != self.spec.closed:
                raise InstrumentError(
                    f"mixer {self.spec.name!r}: valve {self.spec.valve!r} stands at {place or 'no position'} instead of "
                    f"{self.spec.closed}, which isolates: liquid lines conduct, so that readings mean nothing; look who turned it"
                )
            return [Condition(nan if one.level is None else one.level, True, one.level is not None) for one in outlets]

        return look

    def usage(self) -> dict[str, Any]:
        """Exchanges, hours they took, and m^3 of each stock since the bench was opened."""
        used = {stock.pump: stock.volume - self.left[stock.pump] for stock in self.spec.stocks}
        return {"exchanges": self.exchanges, "hours": self.seconds / 3600.0, "stock_used": used, "stock_left": dict(self.left)}

    # What it does ----------------------------------------------------------------------------------------------------

    def prepare(self) -> Sequence[str]:
        """Every pump knows its syringe and rests, the valve isolates; once."""
        if self._prepared:
            return ()
        warnings: list[str] = []
        places = {f"outlets.{name}": place for name, place in self.spec.outlets.items()}
        places |= {"closed": self.spec.closed, "waste": self.spec.waste or 1}
        there = self.valve.positions()
        for what, place in places.items():
            if place > there:
                raise FieldError(
                    f"valve {self.spec.valve!r} has positions 1 to {there}, not {place}", f"mixers.{self.spec.name}.{what}"
                )
        for stock in self.spec.stocks:
            warnings += self.pumps[stock.pump].configure_pump(stock.syringe)
        self._turn(self.spec.closed)
        self._prepared = True
        return warnings

    def check_rates(self, level: float) -> None:
        """ConfigError where a pump with its syringe is too slow or too fast for a mixture of ``level`` mol/m^3."""
        for stock, share in self.spec.shares(level):
            rate, (slowest, fastest) = share * self.spec.flow, self.pumps[stock.pump].rate_span()
            if not slowest <= rate <= fastest:
                raise ConfigError(
                    f"mixer {self.spec.name!r}: for {level:g} mol/m^3 pump {stock.pump!r} would deliver {_millilitres(rate)} "
                    f"mL/min and can do {_millilitres(slowest)} to {_millilitres(fastest)}; narrow the limits, or take another "
                    "flow, syringe or stock"
                )

    def rest(self, *, anyway: bool = False) -> None:
        """Pumps stopped, then every node isolated. All are tried; InstrumentError with what failed.

        ``anyway``: on the way to the safe state it matters that the pumps have stopped. A watchdog that stays set or a valve that
        does not turn although nothing flows through it any more, is only a notice; the next use asks for both.
        """
        running: list[str] = []
        others: list[str] = []
        # A pump that has just failed costs its time-outs, and may deliver meanwhile: the others go first, and the valve is sent
        # off.
        for pump in sorted(self.pumps.values(), key=self._silent):
            if self._silent(pump):
                self._send_to_waste()
            try:
                pump.stop()
            except InstrumentError as error:
                running.append(str(error))
                continue
            self._try(partial(self._guard_pump, pump, 0.0), pump, others, anyway)
        if not running:
            # Without a position that is open: a valve that closes before a pump that still runs would burst a line.
            self._try(partial(self._turn, self.spec.closed), self.valve, others, anyway)
        elif self.spec.waste is not None:
            self._try(partial(self._turn, self.spec.waste), self.valve, others, False)
        self._prepared = False
        if running or others:
            raise InstrumentError("; ".join(dict.fromkeys([*running, *others])))

    def leave(self) -> None:
        """``rest`` for the way home, which comes once for every outlet and insists: others wait meanwhile, to vent perhaps."""
        if self._refused and self.clock.now() - self._refused[-1][0] >= REFUSED:
            self._refused.clear()
        if len(self._refused) >= TRIES:
            raise InstrumentError(self._refused[-1][1])
        try:
            self.rest(anyway=True)
        except InstrumentError as error:
            self._refused.append((self.clock.now(), str(error)))
            raise
        self._refused.clear()

    @staticmethod
    def _silent(part: Any) -> bool:
        return bool(part.session.failed)

    def _send_to_waste(self) -> None:
        """Off to where nothing is lost that a pump may still deliver, if there is such a place; nobody waits for its arrival."""
        with suppress(InstrumentError):  # who turns it next says so
            if self.spec.waste is not None and self.valve.position_now() != self.spec.waste:
                self.valve.go(self.spec.waste)

    @staticmethod
    def _try(action: Callable[[], None], part: Any, problems: list[str], anyway: bool) -> None:
        try:
            action()
        except (InstrumentError, ConfigError) as error:  # a position that the valve does not have was told before
            if anyway:
                part.session.notice(str(error))
            else:
                problems.append(str(error))

    def _exchange(self, outlet: Outlet, level: float) -> None:
        parts = self.spec.shares(level)
        self.check_rates(level)  # a share next to nothing may be too slow although those at both limits are not
        for stock, share in parts:
            self._check_stock(stock, share * self.spec.volume)
        begun = self.clock.now()
        outlet.level = None
        self._turn(outlet.position)
        for stock, share in parts:
            self.left[stock.pump] -= share * self.spec.volume
        self.spec.book(dict(self.left))
        promised = dict(self.left)
        try:
            self._deliver(outlet, parts)
            self._count(parts, promised)
        except InstrumentError as error:
            # At once, and before anything else comes home: what still runs washes the node alone.
            for action in (partial(self.rest, anyway=True), partial(self._count, parts, promised)):
                with suppress(InstrumentError):  # what does not rest, the way home tries again, and says so
                    action()
            low, high = (stock.concentration for stock in self.spec.stocks)
            raise InstrumentError(
                f"{error}; what outlet {outlet.name!r} leads to now is unknown, between {low:g} and {high:g} mol/m^3: its next "
                "use begins with an exchange"
            ) from error
        finally:
            self.spec.book(dict(self.left))
        self.rest()
        self._prepared = True
        outlet.level = level
        outlet.exchanges += 1
        outlet.exchanged_at = self.clock.now()
        self.exchanges += 1
        self.seconds += self.clock.now() - begun

    def _check_stock(self, stock: Stock, needed: float) -> None:
        left = self.left[stock.pump]
        if left < needed:
            raise InstrumentError(
                f"mixer {self.spec.name!r}: pump {stock.pump!r} has {1e6 * left:.3g} mL of its stock of {stock.concentration:g} "
                f"mol/m^3 left, the next exchange takes {1e6 * needed:.3g} mL; fill it up and go on with "
                f"`hil resume ID --refill {stock.pump}=VOLUME`, or book that with `hil refill` and begin anew"
            )

    def _deliver(self, outlet: Outlet, parts: Sequence[tuple[Stock, float]]) -> None:
        """Both pumps deliver their shares, and stop by themselves; InstrumentError as soon as one does not as it was told."""

        def joined() -> None:
            place = self.valve.position_now()
            if place != outlet.position:
                for one in self.outlets.values():  # it may have stood anywhere
                    one.level = None
                raise InstrumentError(
                    f"mixer {self.spec.name!r}: valve {self.spec.valve!r} stands at {place or 'no position'} instead of "
                    f"{outlet.position} while its liquid flows; look who turned it"
                )

        pumps = [stock.pump for stock, _ in parts]
        patience = min([LOOK_EVERY, *(self.watchdogs[pump] / 3.0 for pump in pumps if pump in self.watchdogs)])
        running = Delivery(self.spec.name, self.pumps, self.clock, self.spec.volume / self.spec.flow, patience, joined, self.also)
        for stock, share in parts:
            self._guard_pump(self.pumps[stock.pump], self.watchdogs.get(stock.pump, 0.0))
            running.start(stock.pump, share * self.spec.flow, share * self.spec.volume)
        running.watch()

    def _count(self, parts: Sequence[tuple[Stock, float]], promised: Mapping[str, float]) -> None:
        """What is left by the pumps' own counts, ``promised`` before; InstrumentError for a count other than ordered."""
        problems = []
        for stock, share in parts:
            ordered, pump = share * self.spec.volume, self.pumps[stock.pump]
            if self._silent(pump):
                continue
            counted = pump.pump_state().delivered
            if abs(counted - ordered) <= SHORT * ordered:
                self.left[stock.pump] = promised[stock.pump] + ordered - counted
                continue
            # A counter that was lost on the way says nothing of what has flowed: it stays booked.
            self.left[stock.pump] = promised[stock.pump] - max(counted - ordered, 0.0)
            problems.append(
                f"mixer {self.spec.name!r}: pump {stock.pump!r} counts {1e6 * counted:.4g} mL where {1e6 * ordered:.4g} mL were "
                "ordered; look at its syringe and at the line"
            )
        if problems:
            raise InstrumentError("; ".join(problems))

    def _guard_pump(self, pump: Pump, seconds: float) -> None:
        if isinstance(pump, HardwareWatchdog) and self.watchdogs:
            pump.set_watchdog(seconds)

    def _turn(self, position: int) -> None:
        begun = self.clock.now()
        told = begun - TELL_AGAIN
        while (place := self.valve.position_now()) != position:
            now = self.clock.now()
            if now - begun > TURN_PATIENCE:
                stands = "still turns" if place is None else f"stands at {place}"
                raise InstrumentError(
                    f"mixer {self.spec.name!r}: valve {self.spec.valve!r} {stands} and does not reach position {position}; "
                    "look whether it is stuck"
                )
            if place is not None and now - told >= TELL_AGAIN:
                self.valve.go(position)
                told = now
            self.clock.sleep(TURN_LOOK)


def _millilitres(flow: float) -> str:
    """``flow`` (m^3/s) in mL/min, as a reader of the bench file thinks of it."""
    return f"{6e7 * flow:.3g}"
