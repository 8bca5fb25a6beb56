"""Figures of the Keithley 2400: data sheet 2400S-SPEC, one year, 23 °C ± 5 °C, 1 PLC."""

from simulated_backend.virtual_bench.smu import SmuData, SmuRange

DATA = SmuData(
    volts=(
        SmuRange(0.2, 5e-6, 2e-4, 600e-6, 5e-6, 1e-6, 1.2e-4, 300e-6),
        SmuRange(2.0, 50e-6, 2e-4, 600e-6, 50e-6, 10e-6, 1.2e-4, 300e-6),
        SmuRange(20.0, 500e-6, 2e-4, 2.4e-3, 500e-6, 100e-6, 1.5e-4, 1.5e-3),
        SmuRange(200.0, 5e-3, 2e-4, 24e-3, 5e-3, 1e-3, 1.5e-4, 10e-3),
    ),
    amperes=(
        SmuRange(1e-6, 50e-12, 3.5e-4, 600e-12, 5e-12, 10e-12, 2.9e-4, 300e-12),
        SmuRange(1e-5, 500e-12, 3.3e-4, 2e-9, 50e-12, 100e-12, 2.7e-4, 700e-12),
        SmuRange(1e-4, 5e-9, 3.1e-4, 20e-9, 500e-12, 1e-9, 2.5e-4, 6e-9),
        SmuRange(1e-3, 50e-9, 3.4e-4, 200e-9, 5e-9, 10e-9, 2.7e-4, 60e-9),
        SmuRange(1e-2, 500e-9, 4.5e-4, 2e-6, 50e-9, 100e-9, 3.5e-4, 600e-9),
        SmuRange(1e-1, 5e-6, 6.6e-4, 20e-6, 500e-9, 1e-6, 5.5e-4, 6e-6),
        SmuRange(1.0, 50e-6, 2.7e-3, 900e-6, 5e-6, 10e-6, 2.2e-3, 570e-6),
    ),
    area=((20.0, 1.0), (200.0, 0.1)),
    off_share=5e-3,
    limited_by_range=True,
)
