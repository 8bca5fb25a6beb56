"""What a bench of instruments was, as JSON, for the record of a run."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hil.core.safety import SafetyEnvelope
from instruments.wiring import ControlWire, InstrumentSpec, OutputWire


def bench_record(
    specs: Sequence[InstrumentSpec],
    components: Mapping[str, Any],
    controls: Sequence[ControlWire],
    outputs: Sequence[OutputWire],
    envelope: SafetyEnvelope,
) -> dict[str, object]:
    """Instruments with identity and settings, wiring, limits. ``components``: the open instruments by name."""
    return {
        "instruments": {
            spec.name: {
                "type": spec.type,
                "address": spec.address,
                "options": dict(spec.options),
                "idn": components[spec.name].get_idn() if spec.name in components else None,
                "settings": _settings_of(components.get(spec.name)),
            }
            for spec in specs
        },
        "controls": {
            wire.channel.name: {
                "parameter": wire.parameter,
                "node": wire.channel.node,
                "unit": wire.channel.quantity.value,
                "limits": [float(envelope.minimum[k]), float(envelope.maximum[k])],
                "slew": _finite(float(envelope.max_slew[k])),
                "compliance_A": wire.compliance,
                "safe": wire.channel.safe.action.value,
                "setup": dict(wire.setup),
            }
            for k, wire in enumerate(controls)
        },
        "outputs": {
            wire.channel.name: {
                "parameter": wire.parameter,
                "node": wire.channel.node,
                "unit": wire.channel.quantity.value,
                "setup": dict(wire.setup),
                **({"through": wire.through} if wire.through else {}),
            }
            for wire in outputs
        },
    }


def _settings_of(component: Any) -> Mapping[str, object]:
    settings = getattr(component, "settings", None)
    return dict(settings()) if callable(settings) else {}


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
