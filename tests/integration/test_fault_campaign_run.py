"""A very small fault campaign on one bench: runs are stopped, resumed and judged, and nothing is left on or wrong."""

from benchmarks.fault_benches import BENCHES
from benchmarks.faults import on_one_bench
from tests.marks import needs_file_limits


@needs_file_limits
def test_a_small_campaign_finds_nothing_left_on_exceeded_lost_or_wrong() -> None:
    tally = on_one_bench(BENCHES[0], 3, 8)
    assert tally.injections >= 8
    assert len(tally.led) == tally.injections
    assert tally.readings > 0
    assert (tally.outputs_left_on, tally.limits_exceeded, tally.measurements_lost, tally.wrong_values_accepted) == (0, 0, 0, 0)
