"""Charge that a protocol will pass through the electrodes of a bench, before anything is opened; see ``instruments.charge``."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hil.bench import Assembled
from hil.core.errors import LimitExceededError
from hil.core.types import Channel, Kind, Layout, Quantity, SafeAction, SafeState, Stimulus
from hil.electrodes import inert
from hil.experiment.bench_file import BenchFile


@dataclass
class _Electrode:
    """One source. ``position`` of its current; of the concentration at its node (None without a mixer); C passed and worst."""

    position: int
    node: int | None
    reservoir: float
    capacitance: float | None
    limit: float
    passed: float = 0.0
    charge: float = 0.0
    level: float | None = None
    share: float = 0.0
    interface: float = 0.0


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
        kinds = inert(bench)
        found: dict[str, _Electrode] = {}
        channels: list[Channel] = []
        for name, control in bench.controls.items():
            if control.quantity is not Quantity.VOLTAGE or not (control.node in mixed or name in kinds):
                continue
            node, reservoir = mixed.get(control.node, (None, 0.0))
            electrode = kinds[name].electrode if name in kinds else None
            capacitance, limit = (None, 0.0) if electrode is None else (electrode.capacitance, electrode.limit or 0.0)
            charge = 0.0 if electrode is None else electrode.charge
            found[name] = _Electrode(len(channels), node, reservoir, capacitance, limit, charge=charge)
            channels.append(
                Channel(f"{name}.current", Quantity.CURRENT, Kind.SENSE, node=control.node, safe=SafeState(SafeAction.NONE))
            )
        self._electrodes = found
        self._twin = SimulatedTwin(assembled.network, controls, Layout(tuple(channels))) if channels else None

    def take(self, stimulus: Stimulus, seconds: float) -> None:
        """Let ``stimulus`` stand for ``seconds``."""
        from instruments.charge import FARADAY

        if self._twin is None:
            return
        currents = self._twin.predict([stimulus])[0]
        for one in self._electrodes.values():
            amount = float(currents[one.position]) * seconds
            one.charge += amount
            if one.capacitance is not None:
                one.interface = max(one.interface, abs(one.charge / one.capacitance))
            if one.node is not None:
                level = float(stimulus.values[one.node])
                # A new concentration is a new filling.
                one.passed = abs(amount) if level != one.level else one.passed + abs(amount)
                one.level = level
                one.share = max(one.share, one.passed / (level * one.reservoir * FARADAY))

    def facts(self) -> dict[str, dict[str, float]]:
        """Control -> largest share of a reservoir's salt that passes between two exchanges, and V at an inert interface."""
        found: dict[str, dict[str, float]] = {}
        for name, one in self._electrodes.items():
            if one.node is not None:
                found.setdefault(name, {})["salt_share"] = one.share
            if one.capacitance is not None:
                found.setdefault(name, {})["interface_V"] = one.interface
        return found


def require_bearable(bench: BenchFile, planned: Mapping[str, Mapping[str, float]]) -> None:
    """LimitExceededError naming the electrode that a plan charges, or the reservoir that it uses up, beyond its limit."""
    from instruments.charge import SHARE

    for name, facts in planned.items():
        electrode = bench.controls[name].electrode
        share, voltage = facts.get("salt_share", 0.0), facts.get("interface_V", 0.0)
        if share > SHARE:
            raise LimitExceededError(
                f"control {name!r}: by the plan {100 * share:.3g} % of the salt in its reservoir passes its electrode between "
                f"two exchanges, more than {100 * SHARE:g} %; take fewer channels in parallel, larger reservoirs, or shorter "
                "settling"
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
            yield f"planned for {name}: {100 * facts['salt_share']:.2g} % of the salt passes between two exchanges"
        if "interface_V" in facts:
            yield f"planned for {name}: its inert electrode comes to {facts['interface_V']:.3g} V"
