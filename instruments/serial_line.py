"""Settings of a serial line: which there are, and how a VISA resource is told them."""

from collections.abc import Mapping
from typing import Any

CHOICES: Mapping[str, tuple[object, ...]] = {
    "data_bits": (7, 8),
    "parity": ("none", "odd", "even"),
    "stop_bits": (1, 2),
    "flow_control": ("none", "xon_xoff", "rts_cts", "dtr_dsr"),
}
"""What a bench file may say in an instrument's options, beside ``baud_rate``."""
USUAL: Mapping[str, object] = {"data_bits": 8, "parity": "none", "stop_bits": 1, "flow_control": "none"}


def set_line(resource: Any, settings: Mapping[str, Any]) -> None:
    """Tell a serial VISA resource its ``baud_rate`` and the settings above.

    Only where they are not what every port begins with: a pseudo-terminal refuses most of them.
    """
    from pyvisa.constants import ControlFlow, Parity, StopBits

    resource.baud_rate = settings["baud_rate"]
    words: Mapping[str, Any] = {
        "data_bits": settings["data_bits"],
        "parity": Parity[settings["parity"]],
        "stop_bits": StopBits.two if settings["stop_bits"] == 2 else StopBits.one,
        "flow_control": ControlFlow[settings["flow_control"]],
    }
    for name, value in words.items():
        if settings[name] != USUAL[name]:
            setattr(resource, name, value)
