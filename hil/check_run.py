"""`hil check`: one bench, checked out and put on record."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hil.bench import Target, assemble, bench_document
from hil.bench_check import control_layout, with_currents
from hil.check import check_out, plan
from hil.check_record import save
from hil.control import stoppable_from_outside
from hil.core.errors import ConfigError
from hil.experiment.bench_file import BenchFile
from hil.first_check import kept_after
from hil.locks import locked_bench
from hil.record.recorder import plain
from hil.stopping import stoppable

TOLERANCE = 0.25


@dataclass(frozen=True)
class CheckRequest:
    """What the user asked for; ``sets`` are path=value of the bench file, ``voltage`` (V) goes before the small default."""

    bench: str
    target: Target = Target.VIRTUAL
    data: Path = Path("data")
    sets: tuple[str, ...] = ()
    tolerance: float = TOLERANCE
    voltage: float | None = None


def check(request: CheckRequest) -> dict[str, Any]:
    """Check the bench out, keep the result, and return it. Raises HilError (then nothing is kept), KeyboardInterrupt."""
    if not 0.0 < request.tolerance < 10.0:
        raise ConfigError(f"a tolerance of {request.tolerance:g} means nothing; give a share above 0, such as 0.25")
    if request.voltage is not None and not request.voltage > 0.0:
        raise ConfigError(f"a check at {request.voltage:g} V shows nothing; give a small voltage above 0")
    document = bench_document(request.bench, request.sets)
    plain_bench = document.model(BenchFile)
    try:
        wanted = plan(control_layout(plain_bench), request.voltage)
        bench = with_currents(plain_bench, wanted.stimuli)
        with stoppable(), stoppable_from_outside(request.data), ExitStack() as stack:
            held: tuple[int, ...] = ()
            if request.target is Target.BENCH:
                addresses = [instrument.address for instrument in bench.station.instruments.values()]
                lock = locked_bench(addresses, f"a check of {document.path.name}", bench.notebook.operator)
                held = stack.enter_context(lock)
            assembled = stack.enter_context(
                assemble(bench, request.target, name=document.path.name, folder=request.data, keeps=held)
            )
            warnings: list[str] = []
            assembled.warnings.listen(warnings.append)
            found = check_out(assembled, bench, wanted, request.tolerance)
            if request.target is Target.BENCH and found["passed"]:
                found["first_checks"] = kept_after(bench, wanted.voltages, request.data)
    except ConfigError as error:
        raise document.located(error) from None
    name = document.path.stem
    facts = plain({**found, "warnings": warnings, "tolerance": request.tolerance})
    path = save(request.data, name, request.target.value, facts)
    return {"bench": name, "target": request.target.value, "file": str(path), **facts}
