from collections.abc import Callable, Iterator
from typing import Any

import pytest

from simulated_backend.virtual_bench.emulator import identity_of
from tests.unit.instruments.scripted import Exchange, ScriptedResource, scripted

# Only where the answer is more, or other, than the identity that the emulator states.
IDENTITIES = {
    "Keithley2602B": ("Keithley Instruments Inc., Model 2602B, 1234567, 3.3.5", (("print(localnode.model)", "2602B"),)),
    "Keithley2636B": ("Keithley Instruments Inc., Model 2636B, 1234567, 3.3.5", (("print(localnode.model)", "2636B"),)),
    "DruckPACE6000": ("*IDN GE Druck,PACE6000 User Interface,10388796,02.02.14", ()),
    "DruckPACE5000": ("*IDN GE Druck,PACE5000 User Interface,10388797,02.02.14", ()),
    "FluigentPressure": ("Fluigent,MFCS_EZ,1234,0.00", ()),
    "ElveflowPressure": ("Elveflow,OB1 MK3+,0123,3.10", ()),
    "HarvardPump11Elite": ("11 ELITE I/W Single 3.0.4", ()),
    "HarvardPHDUltra": ("PHD ULTRA I/W 3.0.7", ()),
    "BronkhorstFlow": (b"M24200123A".hex().upper(), ()),
    "AlicatPressure": ("10v05.0-R24", ()),
    "ViciValve": ("3", ()),
    "NewEraNE1000": ("NE1000V3.928", ()),
}

Build = Callable[..., tuple[Any, ScriptedResource]]


@pytest.fixture
def build() -> Iterator[Build]:
    """Build a driver on a scripted resource: ``build(cls, *exchanges)``; every exchange must have been used at the end."""
    made: list[tuple[Any, ScriptedResource]] = []

    def make(driver: type[Any], *exchanges: Exchange, name: str = "unit") -> tuple[Any, ScriptedResource]:
        identity, greeting = IDENTITIES.get(driver.__name__) or (identity_of(driver.__name__), ())
        session, resource = scripted(name, driver.link, identity, *greeting, *exchanges)
        instrument = driver(name, session=session)
        made.append((instrument, resource))
        return instrument, resource

    yield make
    for instrument, resource in made:
        instrument.close()
        assert resource.script == [], "part of the conversation was never held"
        assert resource.closed
