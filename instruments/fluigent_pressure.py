"""Fluigent pressure controllers (MFCS, MFCS-EZ, Flow EZ) through the maker's SDK, where it is installed.

Source: manual and Python package of the Fluigent SDK (versions 21.3 to 23): one session per process, to which controllers may be
added (before 21.3 that ended it); channels counted over all instruments, in an order that changes with every controller, so that
they are named by their unique identifiers here; millibars of gauge pressure unless told otherwise. Leaving a channel under
pressure can make it jump when the session ends (reported for this SDK), so that it is brought to 0 first.
"""

import importlib
from typing import Any

from hil.core.errors import ConfigError, InstrumentError
from instruments.vendor_pressure import Adapter, VendorPressure
from instruments.visa import Link

MILLIBAR = 100.0
_users: dict[int, int] = {}
"""Channels in use, by the serial number of their controller."""


class FluigentChannel:
    """One channel: ``FLUIGENT::serial::position`` (serial number of the controller; position on it, from 0)."""

    def __init__(self, address: str) -> None:
        parts = address.upper().split("::")
        if len(parts) != 3 or parts[0] != "FLUIGENT" or not (parts[1].isdigit() and parts[2].isdigit()):
            raise ConfigError(f"{address!r} is no Fluigent channel; write FLUIGENT::serial::position, such as FLUIGENT::1234::0")
        self._sdk: Any = importlib.import_module("Fluigent.SDK")
        serial, position = int(parts[1]), int(parts[2])
        if serial not in _users:
            self._checked("beginning a session", self._sdk.fgt_init([serial]))
        _users[serial] = _users.get(serial, 0) + 1
        self._serial, self._closed = serial, False
        channels = list(self._sdk.fgt_get_pressureChannelsInfo())
        found = [one for one in channels if int(one.ControllerSN) == serial and int(one.position) == position]
        if not found:
            self.close()
            known = ", ".join(f"FLUIGENT::{one.ControllerSN}::{one.position}" for one in channels) or "none"
            raise ConfigError(f"there is no Fluigent channel {address}; channels: {known}")
        self._info = found[0]
        self._index = int(self._info.indexID)
        self._checked("choosing the unit", self._sdk.fgt_set_pressureUnit(self._index, "mbar"))

    def identify(self) -> str:
        """Maker, kind, serial number of the controller, firmware."""
        return f"Fluigent,{self._info.InstrType},{self._info.ControllerSN},{self._info.firmware}"

    def full_scale(self) -> float:
        """Upper end of the channel's range, Pa."""
        return MILLIBAR * float(self._sdk.fgt_get_pressureRange(self._index)[1])

    def set_pressure(self, pascal: float) -> None:
        """Pa, gauge."""
        self._checked("setting a pressure", self._sdk.fgt_set_pressure(self._index, pascal / MILLIBAR))

    def pressure(self) -> float:
        """Pa, gauge."""
        return MILLIBAR * float(self._sdk.fgt_get_pressure(self._index))

    def close(self) -> None:
        """The session ends with its last channel. Twice is fine."""
        if self._closed:
            return
        self._closed = True
        _users[self._serial] -= 1
        if not any(_users.values()):
            _users.clear()
            self._sdk.fgt_close()

    @staticmethod
    def _checked(doing: str, error: Any) -> None:
        if int(error) != 0:
            raise InstrumentError(f"the Fluigent SDK reported {error} while {doing}")


class FluigentPressure(VendorPressure):
    """One channel of a Fluigent controller. Manual: Fluigent SDK. ``address``: FLUIGENT::serial::position."""

    link = Link(identity=r"^Fluigent,", identify="ID?")
    sdk = "fluigent"
    missing = (
        "the Fluigent SDK is not installed; take its Python package from the maker's release page (the name fluigent-sdk on "
        "the package index is an empty placeholder) and install it into this environment, with setuptools below version 81"
    )
    concrete = True

    @classmethod
    def own_adapter(cls) -> Adapter | None:
        """The channel above, if the SDK can be imported."""
        try:
            importlib.import_module("Fluigent.SDK")
        except ImportError:
            return None
        return FluigentChannel


__all__ = ["FluigentPressure"]
