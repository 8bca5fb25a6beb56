"""Compiled solver of a crossbar with wire resistance: word lines eliminated exactly, conjugate gradients on the bit lines.

Word node (i, j) and bit node (i, j) are joined by cell conductance G_ij; neighbours on a line by its segment. Each line by
itself is a tridiagonal system, so that eliminating all word lines costs one sweep, and the rest, S b − G T⁻¹(G b) = f with
S the bit lines and T the word lines, is symmetric and positive definite; S is its preconditioner. Lines are swept side by
side: along bit lines neighbours in memory are neighbouring columns, and for the word lines the array is turned over.
"""

import numpy as np

from hil.core.types import FloatArray
from simulated_backend.solve.jit import compiled

_BLOCK = 16


@compiled
def turn(a: FloatArray, out: FloatArray) -> None:
    """Transpose in blocks that fit the cache."""
    n, m = a.shape
    for i0 in range(0, n, _BLOCK):
        for j0 in range(0, m, _BLOCK):
            for i in range(i0, min(i0 + _BLOCK, n)):
                for j in range(j0, min(j0 + _BLOCK, m)):
                    out[j, i] = a[i, j]


@compiled
def factor_lines(cells: FloatArray, wire: float, start: float, end: float, inverse: FloatArray) -> None:
    """Pivots 1/d of the tridiagonal systems along axis 0: ``start`` and ``end`` are the conductances that tie the two
    ends of every line to a source, sink, or nothing; ``cells`` the conductances that leave it."""
    n, m = cells.shape
    for i in range(n):
        before = start if i == 0 else wire
        after = end if i == n - 1 else wire
        for j in range(m):
            d = before + after + cells[i, j]
            if i > 0:
                d -= wire * wire * inverse[i - 1, j]
            inverse[i, j] = 1.0 / d


@compiled
def solve_lines(inverse: FloatArray, wire: float, x: FloatArray) -> None:
    """Solve all lines along axis 0 in place."""
    n, m = x.shape
    for i in range(1, n):
        for j in range(m):
            x[i, j] += wire * inverse[i - 1, j] * x[i - 1, j]
    for j in range(m):
        x[n - 1, j] *= inverse[n - 1, j]
    for i in range(n - 2, -1, -1):
        for j in range(m):
            x[i, j] = inverse[i, j] * (x[i, j] + wire * x[i + 1, j])


@compiled
def _by_words(cells: FloatArray, words: FloatArray, wire: float, b: FloatArray, flat: FloatArray, out: FloatArray) -> None:
    """out = T⁻¹ applied to G·b, word lines solved on the turned-over array ``flat``."""
    n, m = b.shape
    for i in range(n):
        for j in range(m):
            out[i, j] = cells[i, j] * b[i, j]
    turn(out, flat)
    solve_lines(words, wire, flat)
    turn(flat, out)


@compiled
def solve(
    cells: FloatArray,
    words: FloatArray,
    bits: FloatArray,
    word_wire: float,
    bit_wire: float,
    start: float,
    end: float,
    into_words: FloatArray,
    into_bits: FloatArray,
    word: FloatArray,
    bit: FloatArray,
    tolerance: float,
    limit: int,
) -> int:
    """Voltages of all word and bit nodes, (n_word, n_bit) each, for currents A put into the nodes.

    ``words`` (turned over) and ``bits``: pivots of the lines. ``bit`` is the first guess. The residual of the reduced
    system ends below ``tolerance`` times its right side, measured in the norm of the preconditioner. Returns the number of
    iterations, −1 if not met.
    """
    n, m = cells.shape
    flat = np.empty((m, n))
    r, z, p, q = np.empty((n, m)), np.empty((n, m)), np.empty((n, m)), np.empty((n, m))
    turn(into_words, flat)
    solve_lines(words, word_wire, flat)
    turn(flat, word)
    for i in range(n):
        for j in range(m):
            r[i, j] = into_bits[i, j] + cells[i, j] * word[i, j]
            z[i, j] = r[i, j]
    solve_lines(bits, bit_wire, z)
    goal = 0.0
    for i in range(n):
        for j in range(m):
            goal += r[i, j] * z[i, j]
    goal *= tolerance * tolerance
    count = 0
    rho = 0.0
    p[:] = bit
    while True:
        # q = (S − G T⁻¹ G) p; the first pass takes p = guess to form the residual
        _by_words(cells, words, word_wire, p, flat, q)
        curvature = 0.0
        for i in range(n):
            before = start if i == 0 else bit_wire
            after = end if i == n - 1 else bit_wire
            for j in range(m):
                s = (before + after + cells[i, j]) * p[i, j] - cells[i, j] * q[i, j]
                if i > 0:
                    s -= bit_wire * p[i - 1, j]
                if i < n - 1:
                    s -= bit_wire * p[i + 1, j]
                q[i, j] = s
                curvature += s * p[i, j]
        alpha = rho / curvature if count > 0 else 1.0
        for i in range(n):
            for j in range(m):
                if count > 0:
                    bit[i, j] += alpha * p[i, j]
                r[i, j] -= alpha * q[i, j]
                z[i, j] = r[i, j]
        solve_lines(bits, bit_wire, z)
        new = 0.0
        for i in range(n):
            for j in range(m):
                new += r[i, j] * z[i, j]
        if new <= goal:
            break
        if count >= limit or not new > 0.0:
            return -1
        beta = new / rho if count > 0 else 0.0
        for i in range(n):
            for j in range(m):
                p[i, j] = z[i, j] + beta * p[i, j]
        rho = new
        count += 1
    _by_words(cells, words, word_wire, bit, flat, q)
    for i in range(n):
        for j in range(m):
            word[i, j] += q[i, j]
    return count
