"""A crossbar of two-terminal cells with resistive word and bit lines, solved by its own structure.

Sources drive the word lines at their left end, every bit line ends in a virtual ground below its last cell. Wiring as in
D. Joksas and A. Mehonic, SoftwareX 12, 100617 (2020): one wire segment before the first cell of a word line and one after
the last cell of a bit line.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from hil.core.errors import ConfigError, NotConvergedError
from hil.core.types import FloatArray
from simulated_backend.devices.base import Device
from simulated_backend.network import Edge, Network, Node

CellLaw = Callable[[FloatArray], tuple[FloatArray, FloatArray]]
"""Voltages (n_word, n_bit) across the cells, word minus bit -> current (A) and slope dI/dV (S)."""
_TOLERANCE = 1e-11
_LIMIT = 5000
_NEWTON_LIMIT = 40


@dataclass(frozen=True, slots=True)
class CrossbarPoint:
    """output (k, n_bit) A into the virtual grounds; word, bit (k, n_word, n_bit) V; iterations of the slowest solve."""

    output: FloatArray
    word: FloatArray
    bit: FloatArray
    iterations: int


@dataclass(frozen=True)
class Crossbar:
    """``cells`` (n_word, n_bit) S; resistance of one wire segment of a word and of a bit line, and of the drivers and the
    virtual grounds, Ω. A resistance of 0 makes ideal lines. Raises ConfigError for values that make no sense."""

    cells: FloatArray
    word_segment: float = 1.0
    bit_segment: float = 1.0
    source_resistance: float = 0.0
    sink_resistance: float = 0.0

    def __post_init__(self) -> None:
        cells = np.ascontiguousarray(self.cells, dtype=np.float64)
        if cells.ndim != 2 or cells.size == 0:
            raise ConfigError(f"the cells of a crossbar are a table (n_word, n_bit), not shape {cells.shape}")
        if not np.all(np.isfinite(cells)) or np.any(cells < 0.0):
            i, j = np.argwhere(~np.isfinite(cells) | (cells < 0.0))[0]
            raise ConfigError(f"cell ({i}, {j}) has conductance {cells[i, j]} S; it must be finite and not negative")
        for name in ("word_segment", "bit_segment", "source_resistance", "sink_resistance"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value >= 0.0):
                raise ConfigError(f"`{name}` = {value} Ω must be finite and not negative")
        if self.word_segment == 0.0 and self.source_resistance > 0.0:
            raise ConfigError("`source_resistance` needs word lines with resistance; set `word_segment` above 0")
        if self.bit_segment == 0.0 and self.sink_resistance > 0.0:
            raise ConfigError("`sink_resistance` needs bit lines with resistance; set `bit_segment` above 0")
        object.__setattr__(self, "cells", cells)

    @property
    def shape(self) -> tuple[int, int]:
        """(n_word, n_bit)."""
        return (int(self.cells.shape[0]), int(self.cells.shape[1]))

    def solve(self, voltages: ArrayLike) -> CrossbarPoint:
        """Node voltages and output currents for every row of ``voltages`` (k, n_word) or (n_word,), V."""
        inputs = self._inputs(voltages)
        n, m = self.shape
        word, bit = np.empty((len(inputs), n, m)), np.zeros((len(inputs), n, m))
        most = 0
        lines = _Lines(self, self.cells)
        for k, row in enumerate(inputs):
            into = np.zeros((n, m))
            into[:, 0] = row * lines.start_word
            most = max(most, lines.solve(into, np.zeros((n, m)), word[k], bit[k], row))
        return CrossbarPoint(self._outputs(word, bit, self.cells * (word - bit)), word, bit, most)

    def currents(self, voltages: ArrayLike) -> FloatArray:
        """Output currents (k, n_bit) A only; with as many inputs as lines the transfer matrix is taken once."""
        inputs = self._inputs(voltages)
        if len(inputs) < min(self.shape) and "transfer" not in self.__dict__:
            return self.solve(inputs).output
        return np.asarray(inputs @ self.transfer)

    @cached_property
    def transfer(self) -> FloatArray:
        """(n_word, n_bit) S: output current per volt. By reciprocity it is found from the side with fewer lines."""
        n, m = self.shape
        if n <= m:
            return self.solve(np.eye(n)).output
        mirrored = Crossbar(
            np.ascontiguousarray(self.cells[::-1, ::-1].T),
            self.bit_segment,
            self.word_segment,
            self.sink_resistance,
            self.source_resistance,
        )
        return np.ascontiguousarray(mirrored.solve(np.eye(m)).output[::-1, ::-1].T)

    def solve_nonlinear(self, voltages: ArrayLike, law: CellLaw, *, tolerance: float = 1e-10) -> CrossbarPoint:
        """The same for cells that follow ``law`` (``cells`` then only says the shape and where Newton begins).

        Raises NotConvergedError when Newton does not bring every node to balance within ``tolerance`` of the largest
        cell current.
        """
        inputs = self._inputs(voltages)
        n, m = self.shape
        start = self.solve(inputs)
        word, bit, flow = start.word.copy(), start.bit.copy(), np.empty((len(inputs), n, m))
        most = 0
        for k, row in enumerate(inputs):
            for iteration in range(_NEWTON_LIMIT):
                current, slope = law(word[k] - bit[k])
                lines = _Lines(self, np.asarray(slope, dtype=np.float64))
                into_words, into_bits = lines.imbalance(word[k], bit[k], current, row)
                flow[k], most = current, max(most, iteration)
                largest = max(np.max(np.abs(current)), np.finfo(float).tiny)
                if max(np.max(np.abs(into_words)), np.max(np.abs(into_bits))) <= tolerance * largest:
                    break
                dw, db = np.zeros((n, m)), np.zeros((n, m))
                lines.solve(into_words, into_bits, dw, db, np.zeros(n))
                word[k] += dw
                bit[k] += db
            else:
                raise NotConvergedError(f"input {k}: the currents of the crossbar did not balance in {_NEWTON_LIMIT} steps")
        return CrossbarPoint(self._outputs(word, bit, flow), word, bit, most)

    def network(self, law: Device, parameters: Callable[[float], dict[str, float]] | None = None) -> Network:
        """The same as a general network (for checks): nodes s{i}, w{i}.{j}, b{i}.{j} and ``gnd``.

        ``law`` with ``parameters(G)`` makes a cell; default {"conductance": G}. Needs line resistance on both sides.
        """
        from simulated_backend.devices.ohmic import Ohmic

        if self.word_segment == 0.0 or self.bit_segment == 0.0:
            raise ConfigError("ideal lines have no nodes of their own; give both lines a resistance")
        wire = Ohmic()
        n, m = self.shape
        make = parameters or (lambda g: {"conductance": g})
        nodes = [Node("gnd", ground=True), *(Node(f"s{i}") for i in range(n))]
        nodes += [Node(f"{kind}{i}.{j}") for kind in "wb" for i in range(n) for j in range(m)]
        first = {"conductance": 1.0 / (self.word_segment + self.source_resistance)}
        last = {"conductance": 1.0 / (self.bit_segment + self.sink_resistance)}
        along_word, along_bit = {"conductance": 1.0 / self.word_segment}, {"conductance": 1.0 / self.bit_segment}
        edges = []
        for i in range(n):
            for j in range(m):
                left = f"s{i}" if j == 0 else f"w{i}.{j - 1}"
                edges.append(Edge(f"W{i}.{j}", left, f"w{i}.{j}", wire, first if j == 0 else along_word))
                below = "gnd" if i == n - 1 else f"b{i + 1}.{j}"
                edges.append(Edge(f"B{i}.{j}", f"b{i}.{j}", below, wire, last if i == n - 1 else along_bit))
                if self.cells[i, j] > 0.0:
                    edges.append(Edge(f"X{i}.{j}", f"w{i}.{j}", f"b{i}.{j}", law, make(float(self.cells[i, j]))))
        return Network.build(nodes, edges)

    def _inputs(self, voltages: ArrayLike) -> FloatArray:
        inputs = np.atleast_2d(np.asarray(voltages, dtype=np.float64))
        if inputs.ndim != 2 or inputs.shape[1] != self.shape[0]:
            raise ConfigError(f"the crossbar has {self.shape[0]} word lines; inputs of shape {inputs.shape} do not fit")
        if not np.all(np.isfinite(inputs)):
            raise ConfigError("an input voltage is not a finite number")
        return inputs

    def _outputs(self, word: FloatArray, bit: FloatArray, current: FloatArray) -> FloatArray:
        if self.bit_segment == 0.0:
            return np.asarray(current.sum(axis=1))
        return np.asarray(bit[:, -1, :] / (self.bit_segment + self.sink_resistance))


class _Lines:
    """Factorised lines of a crossbar for one set of cell slopes."""

    def __init__(self, crossbar: Crossbar, slopes: FloatArray) -> None:
        from simulated_backend.solve import crossbar as kernels

        self.kernels, self.slopes = kernels, np.ascontiguousarray(slopes)
        self.ideal_words, self.ideal_bits = crossbar.word_segment == 0.0, crossbar.bit_segment == 0.0
        self.word_wire = 0.0 if self.ideal_words else 1.0 / crossbar.word_segment
        self.bit_wire = 0.0 if self.ideal_bits else 1.0 / crossbar.bit_segment
        self.start_word = 0.0 if self.ideal_words else 1.0 / (crossbar.word_segment + crossbar.source_resistance)
        self.end_bit = 0.0 if self.ideal_bits else 1.0 / (crossbar.bit_segment + crossbar.sink_resistance)
        turned = np.ascontiguousarray(self.slopes.T)
        self.words, self.bits = np.empty_like(turned), np.empty_like(self.slopes)
        if not self.ideal_words:
            kernels.factor_lines(turned, self.word_wire, self.start_word, 0.0, self.words)
        if not self.ideal_bits:
            kernels.factor_lines(self.slopes, self.bit_wire, 0.0, self.end_bit, self.bits)

    def solve(self, into_words: FloatArray, into_bits: FloatArray, word: FloatArray, bit: FloatArray, row: FloatArray) -> int:
        """Fill ``word`` and ``bit``; ``row``: voltages of ideal word lines. Returns iterations."""
        if self.ideal_words:
            word[:] = row[:, np.newaxis]
            bit[:] = 0.0
            if not self.ideal_bits:
                bit[:] = into_bits + self.slopes * word
                self.kernels.solve_lines(self.bits, self.bit_wire, bit)
            return 0
        if self.ideal_bits:
            bit[:] = 0.0
            turned = np.ascontiguousarray(into_words.T)
            self.kernels.solve_lines(self.words, self.word_wire, turned)
            word[:] = turned.T
            return 0
        count: int = self.kernels.solve(
            self.slopes,
            self.words,
            self.bits,
            self.word_wire,
            self.bit_wire,
            0.0,
            self.end_bit,
            into_words,
            into_bits,
            word,
            bit,
            _TOLERANCE,
            _LIMIT,
        )
        if count < 0:
            raise NotConvergedError(
                f"the crossbar did not converge in {_LIMIT} iterations; a cell may have a negative slope, or the lines are "
                "too resistive for their cells"
            )
        return count

    def imbalance(self, word: FloatArray, bit: FloatArray, current: FloatArray, row: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Net currents into word and bit nodes, (n_word, n_bit) A each; 0 on ideal lines, whose voltage is given."""
        into_words, into_bits = -current, current.copy()
        if self.ideal_words:
            into_words = np.zeros_like(current)
        else:
            along = self.word_wire * np.diff(word, axis=1)
            into_words[:, :-1] += along
            into_words[:, 1:] -= along
            into_words[:, 0] += self.start_word * (row - word[:, 0])
        if self.ideal_bits:
            into_bits = np.zeros_like(current)
        else:
            along = self.bit_wire * np.diff(bit, axis=0)
            into_bits[:-1] += along
            into_bits[1:] -= along
            into_bits[-1] -= self.end_bit * bit[-1]
        return into_words, into_bits
