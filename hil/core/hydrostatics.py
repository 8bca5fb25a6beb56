"""Pressure of a column of water: what a difference in height between a pressure controller and its node makes of a pressure."""

DENSITY = 998.2
"""kg/m^3 of water at 20 degrees Celsius; the salt of a dilute electrolyte does not show."""
GRAVITY = 9.80665
"""m/s^2, standard gravity."""
ATMOSPHERE = 101_325.0
"""Pa, the standard atmosphere: what the air of a rehearsal has, and what gauge pressures are counted from there."""
DEFAULT_EMERGENCY_SLEW = 1e4
"""Pa/s (100 mbar/s): how fast a pressure goes to its safe state where neither an emergency slew nor a slew is declared."""


def head(height: float) -> float:
    """Pa that the node has more than a controller whose outlet acts on a surface ``height`` m above it: rho g h (0.98 mbar a
    centimetre). Negative where the surface is below the node."""
    return DENSITY * GRAVITY * height
