"""What a procedure returns: the part of the summary that it alone knows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class Outcome(StrEnum):
    """How a run ended."""

    CONVERGED = "converged"
    NOT_CONVERGED = "not_converged"
    DONE = "done"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Summary:
    """Result of a procedure; SI values. Fields that a procedure has no use for keep their defaults."""

    outcome: Outcome
    reason: str = ""
    steps: int = 0
    loss: float | None = None
    loss_floor: float | None = None
    loss_history: Sequence[float] = ()
    outputs: Mapping[str, float] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    results: Mapping[str, object] = field(default_factory=dict)
