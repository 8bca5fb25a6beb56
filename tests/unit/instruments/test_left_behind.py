"""Meters that somebody has used before, by hand or with another program: what is left in them neither stops nor falsifies."""

import pytest

from instruments.keithley_6517b import Keithley6517B
from simulated_backend.virtual_bench.process import VirtualBench
from tests.smu_rig import resistors


@pytest.mark.parametrize(
    "left",
    [
        ":TRIG:SOUR BUS",
        ":ARM:SOUR TLIN",
        ":ARM:LAY2:COUN INF",
        ":SENS:VOLT:AVER ON;:SENS:VOLT:AVER:COUN 100",
        ":ARM:LAY2:DEL 30;:TRIG:DEL 30",
        ":ARM:COUN 3;:ARM:LAY2:COUN 2",
    ],
)
def test_an_electrometer_reads_whatever_was_left_in_it(left: str) -> None:
    with VirtualBench.start(resistors("Keithley6517B", {"1": ""}, transport="socket")) as bench:
        meter = Keithley6517B("meter", bench.addresses["it"])
        try:
            meter.write(left)
            meter.configure_meter("volt", {"range": 2.0, "nplc": 1.0})
            before = bench.clock.now()
            acquired = meter.acquisition([("", "volt")])(3)
            assert acquired.values.shape == (3, 1)
            assert bench.clock.now() - before == pytest.approx(3 / 50.0)  # s of the bench
            assert meter.errors() == []
        finally:
            meter.close()
