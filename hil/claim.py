"""A bench in the hands of one program: nobody else measures on it meanwhile, and this program can be asked to end."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from hil.bench import Target
from hil.control import stoppable_from_outside
from hil.core.file_lock import Held
from hil.experiment.bench_file import BenchFile
from hil.locks import locked_bench
from hil.stopping import Stopper, stoppable


@contextmanager
def claimed(bench: BenchFile, target: Target, purpose: str, folder: Path) -> Iterator[tuple[Stopper, tuple[Held, ...]]]:
    """Inside, Ctrl-C, SIGTERM and ``hil stop`` on the data ``folder`` raise KeyboardInterrupt once, and on hardware every
    instrument is held for ``purpose``: the stopper, and the locks for ``hil.bench.assemble(keeps=…)``.

    Raises ``hil.locks.HeldError`` while somebody else measures.
    """
    addresses = [instrument.address for instrument in bench.station.instruments.values()]
    with (
        stoppable() as stopper,
        stoppable_from_outside(folder),
        locked_bench(addresses, purpose, bench.notebook.operator) if target is Target.BENCH else nullcontext(()) as held,
    ):
        yield stopper, held
