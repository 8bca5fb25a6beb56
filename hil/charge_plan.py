"""Charge that a protocol will pass through the electrodes of a bench, before anything is opened; see ``instruments.charge``."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hil.bench import Assembled
from hil.bench_station import electrodes_that_charge
from hil.core.errors import LimitExceededError
from hil.core.types import Channel, Kind, Layout, Quantity, SafeAction, SafeState, Stimulus
from hil.experiment.bench_file import BenchFile

if TYPE_CHECKING:
    from instruments.wiring import Interface


@dataclass
class _Electrode:
    """One source. ``position`` of its current; of the concentration at its node and m^3 of its reservoir (None without a mixer);
    what it bears (None where its electrode is not followed by itself)."""

    position: int
    mixed: tuple[int, float] | None
    interface: "Interface | None"
    charge: float = 0.0
    passed: float = 0.0
    level: float | None = None
    salt: float = 0.0
    most: float = 0.0

    def take(self, amount: float, stimulus: Stimulus) -> None:
        """Let ``amount`` C pass."""
        from instruments.charge import FARADAY

        self.charge += amount
        unsure = 0.0 if self.interface is None else self.interface.unsure
        self.most = max(self.most, abs(self.charge) + unsure)
        if self.mixed is not None:
            position, reservoir = self.mixed
            level = float(stimulus.values[position])
            # A new concentration is a new filling.
            self.passed = abs(amount) if level != self.level else self.passed + abs(amount)
            self.level = level
            self.salt = max(self.salt, self.passed / (level * reservoir * FARADAY))


class Charges:
    """Adds up what the twin's currents pass while every stimulus stands."""

    def __init__(self, bench: BenchFile, assembled: Assembled) -> None:
        from simulated_backend.twin import SimulatedTwin

        controls = assembled.backend.capabilities.controls
        mixed = {
            one.node: (controls.index(name), bench.mixers[one.instrument].reservoir)
            for name, one in bench.controls.items()
            if one.instrument in bench.mixers
        }
        interfaces = electrodes_that_charge(bench)
        self._electrodes: dict[str, _Electrode] = {}
        channels: list[Channel] = []
        for name, control in bench.controls.items():
            if control.quantity is Quantity.VOLTAGE and (control.node in mixed or name in interfaces):
                interface = interfaces.get(name)
                charge = 0.0 if interface is None else interface.charge
                self._electrodes[name] = _Electrode(len(channels), mixed.get(control.node), interface, charge)
                channels.append(
                    Channel(f"{name}.current", Quantity.CURRENT, Kind.SENSE, node=control.node, safe=SafeState(SafeAction.NONE))
                )
        self._twin = SimulatedTwin(assembled.network, controls, Layout(tuple(channels))) if channels else None

    def take(self, stimulus: Stimulus, seconds: float) -> None:
        """Let ``stimulus`` stand for ``seconds``."""
        if self._twin is not None:
            currents = self._twin.predict([stimulus])[0]
            for one in self._electrodes.values():
                one.take(float(currents[one.position]) * seconds, stimulus)

    def facts(self) -> dict[str, dict[str, float]]:
        """Control -> largest share of a reservoir's salt that passes between two exchanges, and V at an inert interface."""
        from instruments.charge import SHARE

        found: dict[str, dict[str, float]] = {}
        for name, one in self._electrodes.items():
            if one.mixed is not None:
                found.setdefault(name, {})["salt_share"] = one.salt
            if one.interface is not None and one.interface.capacitance is not None:
                found.setdefault(name, {})["interface_V"] = one.most / one.interface.capacitance
            elif one.interface is not None:
                found.setdefault(name, {})["salt_share"] = SHARE * one.most / one.interface.most
        return found


def require_bearable(bench: BenchFile, planned: Mapping[str, Mapping[str, float]]) -> None:
    """LimitExceededError naming the electrode that a plan charges, or the reservoir that it uses up, beyond its limit."""
    from instruments.charge import SHARE

    for name, facts in planned.items():
        electrode = bench.controls[name].electrode
        share, voltage = facts.get("salt_share", 0.0), facts.get("interface_V", 0.0)
        if share > SHARE:
            raise LimitExceededError(
                f"control {name!r}: by the plan {100 * share:.3g} % of the salt in its reservoir passes its electrode before "
                f"its liquid is exchanged, more than {100 * SHARE:g} %; take fewer channels in parallel, larger reservoirs, or "
                "shorter settling"
            )
        if electrode is not None and electrode.limit is not None and voltage > electrode.limit:
            raise LimitExceededError(
                f"control {name!r}: the plan charges its inert electrode to {voltage:.3g} V, beyond its limit of "
                f"{electrode.limit:g} V; take larger or silver chloride electrodes, fewer channels in parallel, or less time"
            )


def lines(planned: Mapping[str, Mapping[str, float]]) -> Iterable[str]:
    """For reading."""
    for name, facts in planned.items():
        if "salt_share" in facts:
            yield f"planned for {name}: {100 * facts['salt_share']:.2g} % of the salt passes before its liquid is exchanged"
        if "interface_V" in facts:
            yield f"planned for {name}: its inert electrode comes to {facts['interface_V']:.3g} V"
