"""Compiled relaxation in time: exponential steps of every edge's conductance, Kirchhoff in balance at every stage.

dg/dt = (g∞(V) − g)/τ with V from the linear network of the present conductances. One step (ETD2RK: Cox & Matthews,
J. Comput. Phys. 176, 430 (2002), eqs. (20)-(22), with the linear part −1/τ taken exactly): predict g with g∞ held, find
V there, and correct with g∞ linear in time. The distance between prediction and correction in volts steers the step.
"""

import math

import numpy as np

from hil.core.types import FloatArray
from simulated_backend.solve import factor, kernels
from simulated_backend.solve.factor import Index
from simulated_backend.solve.jit import compiled
from simulated_backend.solve.newton import DIRECT

DONE, SMALL_STEP, LINEAR_FAILURE = 0, 1, 2


@compiled
def balance(
    integers: Index,
    shunt: FloatArray,
    injected: FloatArray,
    g: FloatArray,
    voltage: FloatArray,
    work: FloatArray,
    tolerance: float,
    inner_limit: int,
) -> int:
    """Node voltages of the linear network with edge conductances ``g`` (n_edges,) S; ``voltage`` is start and result.

    ``tolerance``: 2-norm of the scaled imbalance over that of the sources, for the iterative method. Returns inner
    iterations, or −1 when the network could not be solved. Layout of ``integers``: ``newton.pack``.
    """
    n, m, n_lower, n_targets, n_entries, method = (
        integers[1],
        integers[2],
        integers[3],
        integers[4],
        integers[5],
        integers[6],
    )
    o = 7
    base, tip = integers[o : o + m], integers[o + m : o + 2 * m]
    free_base, free_tip = integers[o + 3 * m : o + 4 * m], integers[o + 4 * m : o + 5 * m]
    o += 5 * m
    free = integers[o : o + n]
    first = integers[o + n : o + 2 * n + 1]
    o += 2 * n + 1
    residual, diagonal = work[:n], work[n : 2 * n]
    step, scale = work[2 * n : 3 * n], work[3 * n : 4 * n]
    size = n_lower if method == DIRECT else n_entries
    entries = work[4 * n : 4 * n + size]
    second = integers[o : o + size]
    o += size
    slot_base = integers[o + n_targets : o + n_targets + m]
    entries[:] = 0.0
    for i in range(n):
        diagonal[i] = shunt[i]
        residual[i] = injected[i] - shunt[i] * voltage[free[i]]
        scale[i] = injected[i]
    for e in range(m):
        b, t = free_base[e], free_tip[e]
        vb, vt = voltage[np.uintp(base[e])], voltage[np.uintp(tip[e])]
        current = g[e] * (vb - vt)
        if b >= 0:
            residual[np.uintp(b)] -= current
            diagonal[np.uintp(b)] += g[e]
            if t >= 0:
                entries[np.uintp(slot_base[e])] -= g[e]
                if method != DIRECT:
                    entries[np.uintp(integers[o + n_targets + m + e])] -= g[e]
            else:
                scale[np.uintp(b)] += g[e] * vt
        if t >= 0:
            residual[np.uintp(t)] += current
            diagonal[np.uintp(t)] += g[e]
            if b < 0:
                scale[np.uintp(t)] += g[e] * vb
    count = 0
    if method == DIRECT:
        targets = integers[o : o + n_targets]
        if factor.factorise(first, second, targets, diagonal, entries) != 0:
            return -1
        for i in range(n):
            step[i] = residual[i]
        factor.substitute(first, second, diagonal, entries, step)
        for i in range(n):
            voltage[free[i]] += step[i]
        return 0
    goal = 0.0
    for i in range(n):
        if not diagonal[i] > 0.0:
            return -1
        goal += scale[i] * scale[i] / diagonal[i]
        scale[i] = 1.0 / math.sqrt(diagonal[i])
        step[i] = 0.0
    for i in range(n):
        for k in range(np.uintp(first[i]), np.uintp(first[i + 1])):
            entries[k] *= scale[i] * scale[np.uintp(second[k])]
    inner = work[4 * n + size : 7 * n + size].reshape(3, n)
    count = factor.conjugate_gradients(
        first, second, entries, scale, residual, step, inner, tolerance * math.sqrt(goal), inner_limit
    )
    if count < 0:
        return -1
    for i in range(n):
        voltage[free[i]] += step[i] * scale[i]
    return count


@compiled
def relax(
    integers: Index,
    rows: FloatArray,
    tau: FloatArray,
    shunt: FloatArray,
    injected: FloatArray,
    g: FloatArray,
    voltage: FloatArray,
    work: FloatArray,
    edge_work: FloatArray,
    times: FloatArray,
    samples: FloatArray,
    states: FloatArray,
    tolerance: float,
    step: float,
    fixed: bool,
    order: int,
    largest: float,
    inner_tolerance: float,
    inner_limit: int,
) -> tuple[int, float, int]:
    """Integrate from times[0] and store voltages and conductances at times[1:]; drives constant.

    ``g`` (n_edges,) and ``voltage`` (n_nodes,) are start and end. ``tolerance`` (V): bound of the distance between the
    first- and the second-order solution of one step; the result is the second. ``fixed``: every step is ``step`` long (or
    shorter, to end on a sample); ``order`` 1 keeps the predictor, 0 is the explicit
    Euler step of the network papers;
    no step exceeds ``largest`` (s). Returns (status, next step, steps taken).
    """
    n_nodes, m = integers[0], integers[2]
    codes = integers[7 + 2 * m : 7 + 3 * m]
    base, tip = integers[7 : 7 + m], integers[7 + m : 7 + 2 * m]
    aim, guess, old = edge_work[0], edge_work[1], edge_work[2]
    ahead, begun = np.empty(n_nodes), np.empty(n_nodes)
    trend = np.zeros(n_nodes)
    now = times[0]
    taken = 0
    fresh = True
    last = 0.0
    e_tau = e_full = e_line = 0.0
    for sample in range(1, times.size):
        while now < times[sample]:
            rest = times[sample] - now
            step = min(step, largest)
            parts = math.ceil(rest / step * (1.0 - 1e-9))
            h = rest / max(parts, 1.0) if parts < 8.0 else step
            if fresh:
                for e in range(m):
                    aim[e] = kernels.level(codes[e], rows, e, voltage[np.uintp(base[e])] - voltage[np.uintp(tip[e])])
                fresh = False
            for e in range(m):
                if tau[e] != e_tau or h != last:
                    x = h / tau[e]
                    e_tau, last = tau[e], h
                    e_full = -math.expm1(-x)
                    # 1 − (1 − e^{−x})/x loses digits for short steps, where its series is used.
                    e_line = 1.0 - e_full / x if x > 1e-3 else x * (0.5 - x * (1.0 / 6.0 - x / 24.0))
                guess[e] = g[e] + (e_full if order > 0 else h / tau[e]) * (aim[e] - g[e])
            for i in range(n_nodes):
                begun[i] = voltage[i]
                ahead[i] = voltage[i] + h * trend[i]
            if balance(integers, shunt, injected, guess, ahead, work, inner_tolerance, inner_limit) < 0:
                return LINEAR_FAILURE, step, taken
            worst = 0.0
            if order == 2:
                for e in range(m):
                    if tau[e] != e_tau:
                        x = h / tau[e]
                        e_tau = tau[e]
                        e_full = -math.expm1(-x)
                        e_line = 1.0 - e_full / x if x > 1e-3 else x * (0.5 - x * (1.0 / 6.0 - x / 24.0))
                    reached = kernels.level(codes[e], rows, e, ahead[np.uintp(base[e])] - ahead[np.uintp(tip[e])])
                    old[e] = guess[e] + e_line * (reached - aim[e])
                for i in range(n_nodes):
                    voltage[i] = ahead[i]
                if balance(integers, shunt, injected, old, voltage, work, inner_tolerance, inner_limit) < 0:
                    return LINEAR_FAILURE, step, taken
                for i in range(n_nodes):
                    worst = max(worst, abs(voltage[i] - ahead[i]))
                if not fixed and worst > tolerance:
                    step = h * max(0.2, 0.85 * math.sqrt(tolerance / worst))
                    voltage[:] = begun
                    if step < 1e-12 * (times[times.size - 1] - times[0]):
                        return SMALL_STEP, step, taken
                    continue
                g[:] = old
            else:
                voltage[:] = ahead
                g[:] = guess
            for i in range(n_nodes):
                trend[i] = (voltage[i] - begun[i]) / h
            taken += 1
            now = now + h if parts > 1.0 else times[sample]
            fresh = True
            if not fixed:
                step = max(step, h) if h < step else h
                step *= min(3.0, max(0.5, 0.85 * math.sqrt(tolerance / max(worst, 1e-30))))
        samples[sample - 1] = voltage
        states[sample - 1] = g
    return DONE, step, taken
