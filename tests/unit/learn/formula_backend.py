"""The smallest possible backend: outputs are a formula of the controls, with normal noise if wanted."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from hil.core.backend import Backend
from hil.core.safety import EdgeLimit, SafetyEnvelope
from hil.core.types import Capabilities, Channel, Determinism, Layout, Reading, SettlePolicy, SettleReport, Stimulus


class FormulaBackend(Backend):
    """``formula(values by name) -> outputs``; a channel that is not connected reaches the formula as None.

    ``noise`` is drawn for every reading, ``wander`` once for every stimulus applied.
    """

    def __init__(
        self,
        controls: Sequence[Channel],
        outputs: Sequence[Channel],
        formula: Callable[[Mapping[str, float | None]], Sequence[float]],
        *,
        noise: float = 0.0,
        wander: float = 0.0,
        seed: int = 0,
        edges: Sequence[EdgeLimit] = (),
    ) -> None:
        layout = Layout(tuple(controls))
        kind = Determinism.EXACT if noise == wander == 0.0 else Determinism.SEEDED
        capabilities = Capabilities(layout, Layout(tuple(outputs)), kind, can_capture=True)
        super().__init__("formula", capabilities, SafetyEnvelope.of(layout, edges))
        self.formula = formula
        self.noise = noise
        self.wander = wander
        self.offset = 0.0
        self.rng = np.random.default_rng(seed)
        self.applied: list[Stimulus] = []
        self.samples_read: list[int] = []

    def snapshot(self) -> Mapping[str, object]:
        return {"noise": self.noise}

    def _open(self) -> None: ...

    def _close(self) -> None: ...

    def _make_safe(self) -> None: ...

    def _apply(self, stimulus: Stimulus) -> None:
        self.applied.append(stimulus)
        if self.wander:
            self.offset = self.wander * self.rng.standard_normal()

    def _settle(self, policy: SettlePolicy) -> SettleReport:
        return SettleReport(True, 0.0, 0.0)

    def _read(self, samples: int) -> Reading:
        self.samples_read.append(samples)
        stimulus = self.applied[-1]
        names = self.capabilities.controls.names
        by_name = {
            name: float(value) if on else None for name, value, on in zip(names, stimulus.values, stimulus.connected, strict=True)
        }
        exact = np.array(self.formula(by_name), dtype=np.float64) + self.offset
        drawn = exact + self.noise * self.rng.standard_normal((samples, len(exact)))
        std = drawn.std(axis=0, ddof=1) / np.sqrt(samples) if samples > 1 and self.noise else np.full(len(exact), self.noise)
        return Reading(drawn.mean(axis=0), std, np.zeros(len(exact), dtype=np.bool_), float(len(self.applied)))

    def _capture(self) -> object:
        return self.rng.bit_generator.state

    def _restore(self, state: object) -> None:
        self.rng.bit_generator.state = state
