"""Pumps and a valve that are scripts and nothing else, for the tests of mixers."""

from dataclasses import dataclass, field
from typing import Any

from hil.core.clock import SteppedClock
from hil.core.errors import InstrumentError
from instruments.fluid_roles import PumpState, Syringe
from instruments.mixer import Mixer
from instruments.mixer_spec import MixerSpec, Stock
from instruments.wiring import InstrumentSpec

SYRINGE = Syringe(26.7e-3, 60e-6)
STOCKS = (Stock("weak", 0.1, 3e-6, SYRINGE), Stock("strong", 0.5, 3e-6, SYRINGE))
SPEC = MixerSpec("mix", STOCKS, "valve", 4, {"n1": 1, "n2": 2}, 1e-6 / 60.0, 1e-6, 2e-7)


@dataclass
class Session:
    failed: bool = False
    notices: list[str] = field(default_factory=list)

    def notice(self, sentence: str) -> None:
        self.notices.append(sentence)


@dataclass
class FakePump:
    name: str
    log: list[tuple[Any, ...]]
    clock: SteppedClock
    loss: float = 0.0
    pace: float = 1.0
    session: Session = field(default_factory=Session)
    begun: float = 0.0
    rate: float = 0.0
    volume: float = 0.0
    watchdog: float = 0.0
    asked: float = 0.0
    longest_silence: float = 0.0
    starting: float = 0.0
    replying: float = 0.0
    dies: float = float("inf")

    def configure_pump(self, syringe: Syringe) -> list[str]:
        self.log.append((self.name, "configure", syringe))
        return []

    def rate_span(self) -> tuple[float, float]:
        return 1e-12, 1e-6

    def start(self, rate: float, volume: float | None = None) -> None:
        self.log.append((self.name, "start", rate, volume))
        self.clock.sleep(0.5 * self.starting)
        self.begun, self.rate, self.volume = self.clock.now(), rate, volume or 0.0
        self.clock.sleep(0.5 * self.starting)
        self.asked = self.begun

    def stop(self) -> None:
        self._require_alive()
        self.log.append((self.name, "stop"))
        self.volume = min(self.volume, self.rate * (self.clock.now() - self.begun))

    def _require_alive(self) -> None:
        if self.clock.now() - self.begun > self.dies:
            self.session.failed = True
            self.log.append((self.name, "silent"))
            self.clock.sleep(3.0)
            raise InstrumentError(f"{self.name} does not answer")

    def pump_state(self) -> PumpState:
        self._require_alive()
        self.clock.sleep(0.5 * self.replying)
        now = self.clock.now()
        self.clock.sleep(0.5 * self.replying)
        self.longest_silence = max(self.longest_silence, now - self.asked)
        self.asked = now
        passed = self.pace * self.rate * (now - self.begun)
        return PumpState(passed < self.volume, min(passed, self.volume) * (1.0 - self.loss))

    def set_watchdog(self, seconds: float) -> None:
        self.log.append((self.name, "watchdog", seconds))
        self.watchdog = seconds


@dataclass
class FakeValve:
    log: list[tuple[Any, ...]]
    session: Session = field(default_factory=Session)
    place: int = 1
    deaf: int = 0

    def positions(self) -> int:
        return 6

    def go(self, position: int) -> None:
        if self.deaf:
            self.deaf -= 1
            return
        self.log.append(("valve", position))
        self.place = position

    def position_now(self) -> int | None:
        return self.place


def scripted_mixer(log: list[tuple[Any, ...]]) -> Mixer:
    """Of two pumps with watchdogs of 6 s and a valve, which write what they do into ``log``."""
    clock = SteppedClock()
    pumps = {name: FakePump(name, log, clock) for name in ("weak", "strong")}
    specs = [InstrumentSpec(name, "t", name, watchdog=6.0) for name in pumps]
    return Mixer.of(SPEC, {**pumps, "valve": FakeValve(log)}, clock, specs)
