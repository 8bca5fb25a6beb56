"""Figures of the Keithley 6517B: specification SPEC-6517BC. Noise is not specified per reading: 1.5 counts at 1 PLC are taken."""

from simulated_backend.virtual_bench.converter import Range

INPUT_RESISTANCE = 200e12
ZERO_CHECK_RESISTANCE = 1e6
BIAS_LIMIT = 3e-15
BURDENS = (20e-6, 100e-6, 20e-6, 20e-6, 100e-6, 20e-6, 20e-6, 100e-6, 2e-3, 5e-3)
"""V: limit of the voltage burden on each range of AMPERE_RANGES."""
OVERRANGE = 1.05
COUNTS_OF_NOISE = 1.5

VOLT_RANGES = [
    Range(full, OVERRANGE * full, reading, offset, COUNTS_OF_NOISE * full * 5e-7, full * 5e-7)
    for full, reading, offset in ((2.0, 2.5e-4, 40e-6), (20.0, 2.5e-4, 300e-6), (200.0, 6e-4, 3e-3))
]
AMPERE_RANGES = [
    Range(full, OVERRANGE * full, reading, offset, COUNTS_OF_NOISE * full * 5e-7, full * 5e-7)
    for full, reading, offset in (
        (20e-12, 1e-2, 3e-15),
        (200e-12, 1e-2, 5e-15),
        (2e-9, 2e-3, 300e-15),
        (20e-9, 2e-3, 500e-15),
        (200e-9, 2e-3, 5e-12),
        (2e-6, 1e-3, 100e-12),
        (20e-6, 1e-3, 500e-12),
        (200e-6, 1e-3, 5e-9),
        (2e-3, 1e-3, 100e-9),
        (20e-3, 1e-3, 500e-9),
    )
]
