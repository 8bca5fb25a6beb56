"""What is to be learnt, and how it and a set of weights become stimuli."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hil.core.errors import BackendError, ConfigError
from hil.core.types import BoolArray, FloatArray, Layout, Readings, Stimulus


@dataclass(frozen=True)
class Task:
    """Inputs and the outputs that are wanted for them, SI.

    inputs: (n_inputs, len(input_names)); targets: (n_inputs, len(output_names)). A task with one stimulus and several
    targets has one row and may have no input columns at all (everything applied is then fixed).
    """

    input_names: tuple[str, ...]
    inputs: FloatArray
    output_names: tuple[str, ...]
    targets: FloatArray

    def __post_init__(self) -> None:
        if not self.output_names:
            raise ConfigError("a task needs at least one target output")
        if self.targets.shape != (len(self.inputs), len(self.output_names)) or self.inputs.shape[1:] != (len(self.input_names),):
            raise ConfigError(
                f"a task of {len(self.input_names)} inputs and {len(self.output_names)} outputs cannot have inputs of shape "
                f"{self.inputs.shape} and targets of shape {self.targets.shape}"
            )
        if len(self.inputs) == 0 or not (np.all(np.isfinite(self.inputs)) and np.all(np.isfinite(self.targets))):
            raise ConfigError("a task needs at least one row, and finite inputs and targets")

    @classmethod
    def single(cls, targets: dict[str, float]) -> "Task":
        """One stimulus, several target outputs."""
        return cls((), np.zeros((1, 0)), tuple(targets), np.array([list(targets.values())], dtype=np.float64))

    def __len__(self) -> int:
        return len(self.inputs)


@dataclass(frozen=True)
class Bindings:
    """Where weights, inputs and outputs sit among the channels of a backend.

    values, connected: (n_controls,): what is applied to every control that is neither weight nor input.
    """

    layout: Layout
    values: FloatArray
    connected: BoolArray
    weights: tuple[str, ...]

    def __post_init__(self) -> None:
        self.layout.indices(self.weights)

    def stimuli(self, weights: FloatArray, task: Task) -> list[Stimulus]:
        """All inputs of ``task`` at each point: weights (n_points, n) SI -> n_points · n_inputs stimuli, inputs innermost."""
        points, rows = len(weights), len(task)
        values = np.tile(self.values, (points, rows, 1))
        connected = self.connected.copy()
        places = self.layout.indices(self.weights)
        values[:, :, places] = np.asarray(weights)[:, None, :]
        connected[places] = True
        if task.input_names:
            columns = self.layout.indices(task.input_names)
            values[:, :, columns] = task.inputs
            connected[columns] = True
        return [Stimulus(row, connected) for row in values.reshape(points * rows, -1)]


def outputs_of(readings: Readings, outputs: Layout, task: Task) -> tuple[FloatArray, FloatArray]:
    """Values and standard errors of the target outputs, (n_points, n_inputs, n_outputs) each; NaN errors count as 0.

    Raises BackendError, naming the output, where a reading overloaded or is not finite: such a number must not train.
    """
    columns = outputs.indices(task.output_names)
    values, bad = readings.values[:, columns], readings.overload[:, columns]
    wrong = bad | ~np.isfinite(values)
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        what = "overloaded" if bad[row, column] else f"read {values[row, column]}"
        raise BackendError(
            f"output {task.output_names[column]!r} {what} at stimulus {row + 1} of {len(values)}; "
            "widen its range in the bench file, keep the network inside it, or see the warnings for a source at its compliance"
        )
    shape = (-1, len(task), len(columns))
    return values.reshape(shape), np.nan_to_num(readings.std[:, columns], nan=0.0).reshape(shape)


def grid(rows: Sequence[FloatArray]) -> FloatArray:
    """Columns of equal length side by side, (n_inputs, n_columns); ConfigError when their lengths differ."""
    lengths = {len(row) for row in rows}
    if len(lengths) > 1:
        raise ConfigError(f"inputs must be equally many for every channel, not {', '.join(str(len(row)) for row in rows)}")
    return np.stack(rows, axis=1) if rows else np.zeros((1, 0))
