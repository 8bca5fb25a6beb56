"""What a protocol will use up, before anything is opened: exchanges, hours, millilitres of each stock, what electrodes bear.

The procedure runs on the network that we believe in, which takes no time; every concentration that it asks for is counted by
the rule that a mixer follows, and costs what one exchange takes in closed form (volume over flow, and the valve's two ways).
Of the pumps' errors, the electrodes and the noise of the real bench this knows nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from hil.bench import Assembled, Target
from hil.bench_mixers import mixer_specs
from hil.charge_plan import Charges, require_bearable
from hil.charge_plan import lines as charge_lines
from hil.core.errors import BackendError, NotConvergedError
from hil.core.events import EventStream
from hil.core.lab import Lab
from hil.core.types import Quantity, Readings, Stimulus
from hil.electrodes import followed
from hil.experiment.bench_file import BenchFile
from hil.experiment.fields import FieldError
from hil.prepared import Prepared

if TYPE_CHECKING:
    from instruments.mixer_spec import MixerSpec


@dataclass
class _Tally:
    """What one mixer would do; ``outlets``: positions of its controls in the layout."""

    spec: "MixerSpec"
    outlets: Sequence[int]
    levels: dict[int, float] = field(default_factory=dict)
    exchanges: int = 0
    used: dict[str, float] = field(default_factory=dict)

    def take(self, stimulus: Stimulus) -> float:
        """Count the exchanges that lead to ``stimulus``; the seconds they take."""
        from instruments.mixer_spec import needs_exchange

        before = self.exchanges
        for position in self.outlets:
            level = float(stimulus.values[position])
            if stimulus.connected[position] and needs_exchange(self.levels.get(position), level):
                self.levels[position] = level
                self.exchanges += 1
                for stock, share in self.spec.shares(level):
                    self.used[stock.pump] = self.used.get(stock.pump, 0.0) + share * self.spec.volume
        return (self.exchanges - before) * self.spec.seconds


def planned_use(prepared: Prepared) -> dict[str, Any]:
    """``liquids``: mixer -> exchanges, hours (of the exchanges), m^3 of each stock, and how often its syringe has to be refilled.
    ``charges``: see ``hil.charge_plan``.

    Empty without mixers and electrodes whose charge is followed. The protocol is expected to take the course that it takes on
    the twin; where it takes none (no operating point) nothing is foretold. Raises what the plan of the procedure raises.
    """
    if not prepared.bench.mixers and not followed(prepared.bench):
        return {}
    calm = replace(prepared, request=replace(prepared.request, real_time=False, stop_by=None))
    with calm.assembled(Target.SIMULATED) as assembled:
        tallies, charges = _tallies(prepared.bench, assembled), Charges(prepared.bench, assembled)
        try:
            _rehearse(calm, assembled, tallies, charges)
        except (BackendError, NotConvergedError):
            return {}
    return {"liquids": {tally.spec.name: _facts(tally) for tally in tallies}, "charges": charges.facts()}


def _tallies(bench: BenchFile, assembled: Assembled) -> list[_Tally]:
    controls = assembled.backend.capabilities.controls
    return [
        _Tally(
            spec,
            [
                controls.index(name)
                for name, control in bench.controls.items()
                if control.instrument == spec.name and control.quantity is Quantity.CONCENTRATION
            ],
        )
        for spec in mixer_specs(bench)
    ]


def _rehearse(prepared: Prepared, assembled: Assembled, tallies: Sequence[_Tally], charges: Charges) -> None:
    backend = assembled.backend
    last = assembled.clock.now()

    def watch(stimuli: Sequence[Stimulus], readings: Readings) -> None:
        nonlocal last
        for stimulus, time in zip(stimuli, readings.time, strict=True):
            meanwhile = max(float(time) - last, 0.0)
            last = float(time)
            charges.take(stimulus, meanwhile + sum(tally.take(stimulus) for tally in tallies))

    backend.observers.append(watch)
    notes = prepared.bench.notebook.model_dump()
    lab = Lab(backend, assembled.twin, assembled.clock, EventStream(), prepared.seed, notes, assembled.exchange)
    with backend, prepared.located():
        prepared.procedure.run(prepared.settings, lab)


def _facts(tally: _Tally) -> dict[str, Any]:
    refills = {}
    for stock in tally.spec.stocks:
        used = tally.used.setdefault(stock.pump, 0.0)
        refills[stock.pump] = max(0, -int(-(used - stock.volume) // stock.syringe.volume))
    return {
        "exchanges": tally.exchanges,
        "hours": tally.exchanges * tally.spec.seconds / 3600.0,
        "stock_used": dict(tally.used),
        "refills": refills,
    }


def require_enough(bench: BenchFile, planned: Mapping[str, Any]) -> None:
    """FieldError naming the stock of which a plan takes more than there is, its supply included; LimitExceededError naming the
    electrode through which more would pass than it bears."""
    require_bearable(bench, planned.get("charges", {}))
    for name, facts in planned.get("liquids", {}).items():
        for pump, used in facts["stock_used"].items():
            stock = bench.mixers[name].pumps[pump]
            if used > stock.available:
                what = "volume" if stock.supply is None else "supply"
                raise FieldError(
                    f"the plan takes {1e6 * used:.3g} mL of it ({facts['exchanges']} exchanges of mixer {name!r} in "
                    f"{facts['hours']:.3g} h) and there are {1e6 * stock.available:.3g} mL; prepare more, say with `supply` "
                    "how much there is with what the syringe is refilled from, or, if it was filled since, book that "
                    "with `hil refill`",
                    f"mixers.{name}.pumps.{pump}.{what}",
                )


def refilled(bench: BenchFile) -> BenchFile:
    """The bench for a rehearsal: syringes that hold all that there is, because nobody stands by to refill them."""
    mixers = {
        name: mixer.model_copy(
            update={"pumps": {pump: stock.model_copy(update={"volume": stock.available}) for pump, stock in mixer.pumps.items()}}
        )
        for name, mixer in bench.mixers.items()
    }
    supplies = {
        pump: stock.supply for mixer in bench.mixers.values() for pump, stock in mixer.pumps.items() if stock.supply is not None
    }
    options = dict(bench.virtual.instruments)
    for pump, supply in supplies.items():
        # What is inside by the file's word, and a syringe that it fits into.
        options[pump] = {**options.get(pump, {}), "content": supply, "capacity": supply}
    return bench.model_copy(update={"mixers": mixers, "virtual": bench.virtual.model_copy(update={"instruments": options})})


def lines(planned: Mapping[str, Any]) -> list[str]:
    """For reading."""
    found = list(charge_lines(planned.get("charges", {})))
    for name, facts in planned.get("liquids", {}).items():
        stock = ", ".join(f"{1e6 * volume:.3g} mL of {pump}" for pump, volume in facts["stock_used"].items())
        refills = ", ".join(f"{pump} ({count} x)" for pump, count in facts["refills"].items() if count)
        found.append(
            f"planned for {name}: {facts['exchanges']} exchanges in {facts['hours']:.3g} h, {stock}"
            + (f"; refill {refills}" if refills else "")
        )
    return found
