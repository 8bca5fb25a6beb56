"""The contract on a real bench: ``pytest --bench FILE tests/contract/test_hardware_contract.py``.

Only ask for it with a dummy load or a sample that may see every value inside the limits of the bench file. There is no side
door to hardware: what the instruments read back stands in for it, and the twin for the truth, with a wide tolerance.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from hil.bench import Target, assemble
from hil.core.types import SafeAction, SettlePolicy, Stimulus
from hil.experiment.bench_file import BenchFile
from hil.experiment.loader import read
from instruments.backend import InstrumentBackend
from tests.backend_contract import BackendContract, World

pytestmark = pytest.mark.hardware


class TestHardware(BackendContract):
    @pytest.fixture
    def world(self, request: pytest.FixtureRequest) -> Iterator[World]:
        document = read(Path(request.config.getoption("--bench")))
        with assemble(document.model(BenchFile), Target.BENCH) as lab:
            backend = lab.backend
            assert isinstance(backend, InstrumentBackend)
            layout = backend.capabilities.controls
            low, high = backend.envelope.minimum, backend.envelope.maximum
            stimuli = [[float(x) for x in low + part * (high - low)] for part in (0.5, 0.6, 0.4)]

            def controls() -> Mapping[str, float | None]:
                return backend.terminals()

            def outputs(values: Sequence[float]) -> Mapping[str, float]:
                predicted = lab.twin.predict([Stimulus.of(values)])[0]
                return dict(zip(backend.capabilities.outputs.names, map(float, predicted), strict=True))

            def at_rest() -> bool:
                return all(
                    value is None or (channel.safe.action is SafeAction.LEVEL and abs(value - channel.safe.value) < 1e-2)
                    for channel, value in zip(layout, controls().values(), strict=True)
                )

            yield World(
                backend,
                stimuli,
                SettlePolicy(tolerance=1e-3, window=0.1, timeout=120.0),
                SettlePolicy(tolerance=1e-12, window=0.1, timeout=0.25),
                controls,
                outputs,
                at_rest,
                dict.fromkeys(backend.capabilities.outputs.names, float("inf")),
                {channel.name: 1e-2 * (channel.maximum - channel.minimum) for channel in layout},
                trained=layout.names[0],
            )
            backend.close()
