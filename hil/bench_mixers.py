"""From the mixers of a bench file to what drives them, and to the liquids that the emulators live in."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from hil.experiment.bench_file import BenchFile

if TYPE_CHECKING:
    from instruments.mixer_spec import MixerSpec


def mixer_specs(bench: BenchFile, book: Callable[[Mapping[str, float]], None] = lambda _left: None) -> "tuple[MixerSpec, ...]":
    """Every mixer, the weaker stock first; ``book``: see ``instruments.mixer_spec.MixerSpec``."""
    if not bench.mixers:
        return ()
    from instruments.fluid_roles import Syringe
    from instruments.mixer_spec import MixerSpec, Stock

    found = []
    for name, mixer in bench.mixers.items():
        weak, strong = sorted(
            (
                Stock(pump, stock.concentration, stock.volume, Syringe(stock.syringe.diameter or 0.0, stock.syringe.volume))
                for pump, stock in mixer.pumps.items()
            ),
            key=lambda stock: stock.concentration,
        )
        volumes = (mixer.exchange, mixer.reservoir)
        found.append(
            MixerSpec(name, (weak, strong), mixer.valve, mixer.closed, mixer.outlets, mixer.flow, *volumes, book, mixer.waste)
        )
    return tuple(found)


def liquids(bench: BenchFile) -> dict[str, Any]:
    """``BenchPlan.liquids``: outlets that a control uses, with the node it is for. Empty without mixers."""
    if not bench.mixers:
        return {}
    mixers = []
    for name, mixer in bench.mixers.items():
        nodes = {control.port: control.node for control in bench.controls.values() if control.instrument == name}
        mixers.append(
            {
                "pumps": {pump: stock.concentration for pump, stock in mixer.pumps.items()},
                "valve": mixer.valve,
                "dead_volume": mixer.dead_volume,
                "bore": mixer.line.bore,
                "outlets": {
                    str(position): {"node": nodes[outlet], "length": mixer.line.length, "reservoir": mixer.reservoir}
                    for outlet, position in mixer.outlets.items()
                    if outlet in nodes
                },
            }
        )
    return {"electrodes": bench.virtual.plant.electrodes, "mixers": [one for one in mixers if one["outlets"]]}


def syringe(bench: BenchFile, name: str, model: str) -> dict[str, float]:
    """Options of the emulated syringe pump ``name`` (m, m^3): what the mixers say is clamped into it. Others have none."""
    from simulated_backend.virtual_bench.emulator import options_of

    for stock in (stock for mixer in bench.mixers.values() for pump, stock in mixer.pumps.items() if pump == name):
        told = {"diameter": stock.syringe.diameter or 0.0, "content": stock.volume, "capacity": stock.syringe.volume}
        return {key: value for key, value in told.items() if key in options_of(model) and value > 0.0}
    return {}
