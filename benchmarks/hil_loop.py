"""Time per apply-settle-read on the virtual bench against the same exchanges, replayed without the program around them.

The plant answers a constant (``BenchPlan.frozen``), so what is timed is the loop, the drivers and the wire. One pass is
recorded: every message to every instrument and every stretch of time the bench is told to let pass. The peer sends exactly
these again, through a plain QCoDeS parameter per message.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.result import Result

NAMES = ("hil_loop",)
_LOOPS, _ROUNDS = 40, 7


def run(name: str) -> Iterable[Result]:
    """The shipped divider bench; ``ratio`` is our time over that of the bare exchanges (1 is the least there can be)."""
    with _opened() as backend:
        from hil.core.types import SettlePolicy, Stimulus

        policy = SettlePolicy(tolerance=1e-4, window=0.02, timeout=60.0)
        rest = backend.capabilities.controls
        start = np.array([channel.safe.value for channel in rest])
        for position, channel in enumerate(rest):
            if channel.quantity.value == "Pa":
                start[position] = 101_325.0  # what the frozen plant has

        def once(k: int) -> Any:
            values = start.copy()
            values[rest.index("V1")] = 1e-3 * (k % 2)  # near the frozen 0 V: a read-back elsewhere is a stuck source
            backend.apply(Stimulus.of(values))
            backend.settle(policy)
            return backend.read()

        for k in range(4):
            once(k)
        with _recorded() as exchanges:
            reading = once(4)
        once(5)
        with _recorded() as others:
            once(6)
        bare = _as_parameters([*exchanges])
        ours, peer = np.inf, np.inf
        for _ in range(_ROUNDS):  # turn by turn, so that both sides see the same machine
            begin = time.perf_counter()
            for k in range(_LOOPS):
                once(k + 7)
            ours = min(ours, (time.perf_counter() - begin) / _LOOPS)
            begin = time.perf_counter()
            for _ in range(_LOOPS):
                for exchange in bare:
                    exchange()
            peer = min(peer, (time.perf_counter() - begin) / _LOOPS)
        # the plant is frozen: a pass that needs other exchanges than the recorded one would make the comparison void
        error = float(abs(len(others) - len(exchanges))) + float(not np.all(np.isfinite(reading.values)))
        note = f"ratio: ours over {len(bare)} bare exchanges; error: exchanges by which two passes differ"
        yield Result(name, len(bare), ours, "plain QCoDeS parameters", peer, ours / peer, error, 0.0, note)


@contextmanager
def _opened() -> Iterator[Any]:
    """Backend of the shipped divider bench, virtual, with a frozen plant."""
    from hil import bench as composition
    from hil.bench_station import virtual_plan
    from hil.experiment.bench_file import BenchFile
    from hil.experiment.loader import read
    from simulated_backend.virtual_bench.process import VirtualBench

    def frozen(bench: Any, seed: int | None = None, *, real_time: bool = False) -> Any:
        plan = virtual_plan(bench, bench.virtual.seed if seed is None else seed, real_time=real_time)
        return VirtualBench.start(replace(plan, frozen=True))

    file = read(composition.shipped_protocols() / "benches" / "divider.yaml").model(BenchFile)
    with (
        mock.patch.object(composition, "start_virtual", frozen),
        composition.assemble(file, composition.Target.VIRTUAL) as lab,
        lab.backend as backend,
    ):
        yield backend


@contextmanager
def _recorded() -> Iterator[list[Callable[[], object]]]:
    """Everything that crosses the wire meanwhile, as calls that can be made again on the bare resources."""
    from instruments.visa import Session
    from simulated_backend.virtual_bench.process import VirtualBench

    kept: list[Callable[[], object]] = []
    write, query, query_bytes, ask = Session.write, Session.query, Session.query_bytes, VirtualBench.ask

    def note_write(self: Any, message: str) -> None:
        kept.append(partial(_plain(self).write, message))
        write(self, message)

    def note_query(self: Any, message: str, **options: Any) -> str:
        kept.append(partial(_plain(self).ask, message))
        return query(self, message, **options)

    def note_bytes(self: Any, message: str, count: int, **options: Any) -> bytes:
        kept.append(partial(_ask_bytes, self.resource, message, count))
        return query_bytes(self, message, count, **options)

    def note_time(self: Any, verb: str, **options: Any) -> Any:
        kept.append(partial(ask, self, verb, **options))
        return ask(self, verb, **options)

    with (
        mock.patch.object(Session, "write", note_write),
        mock.patch.object(Session, "query", note_query),
        mock.patch.object(Session, "query_bytes", note_bytes),
        mock.patch.object(VirtualBench, "ask", note_time),
    ):
        yield kept


@cache
def _plain(session: Any) -> Any:
    """A QCoDeS instrument with nothing but the wire: its parameters ask and write as those of any stock driver do."""
    from qcodes.instrument import Instrument

    class Plain(Instrument):
        def write_raw(self, cmd: str) -> None:
            session.resource.write(cmd)

        def ask_raw(self, cmd: str) -> str:
            session.resource.write(cmd)
            return str(session.resource.read())

    return Plain(f"plain_{session.name}_{id(session)}")


def _ask_bytes(resource: Any, message: str, count: int) -> bytes:
    resource.write(message)
    return bytes(resource.read_bytes(count))


def _as_parameters(exchanges: list[Callable[[], object]]) -> list[Callable[[], object]]:
    """A QCoDeS parameter per exchange; getting it makes the exchange."""
    from qcodes.parameters import Parameter

    return [Parameter(f"exchange_{k}", get_cmd=exchange, set_cmd=False).get for k, exchange in enumerate(exchanges)]
