"""`hil check`: one bench, checked out and put on record."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hil.bench import Target, assemble, bench_document
from hil.bench_check import control_layout, with_currents
from hil.check import check_out, plan
from hil.check_record import key_of, save
from hil.claim import claimed
from hil.core.errors import BackendError, ConfigError, SafetyError
from hil.experiment.bench_file import BenchFile
from hil.experiment.loader import Document
from hil.first_check import kept_after
from hil.record.recorder import plain

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
    """Check the bench out, keep the result, and return it.

    Raises HilError; where the bench itself could not be checked, that is kept as a failure. KeyboardInterrupt: nothing is kept.
    """
    if not 0.0 < request.tolerance < 10.0:
        raise ConfigError(f"a tolerance of {request.tolerance:g} means nothing; give a share above 0, such as 0.25")
    if request.voltage is not None and not request.voltage > 0.0:
        raise ConfigError(f"a check at {request.voltage:g} V shows nothing; give a small voltage above 0")
    document = bench_document(request.bench, request.sets)
    plain_bench = document.model(BenchFile)
    try:
        wanted = plan(control_layout(plain_bench), request.voltage)
        bench = with_currents(plain_bench, wanted.stimuli, wanted.strong)
        with (
            claimed(bench, request.target, f"a check of {document.path.name}", request.data) as (_, held),
            assemble(bench, request.target, name=document.path.name, folder=request.data, keeps=held) as assembled,
        ):
            warnings: list[str] = []
            assembled.warnings.listen(warnings.append)
            try:
                found = check_out(assembled, bench, wanted, request.tolerance)
            except (BackendError, SafetyError) as error:
                # What cannot even be checked must not be used: a source that is stuck, an open door, a leak that never settles.
                _keep(request, document, {"passed": False, "reason": str(error), "findings": []}, warnings)
                raise
            if request.target is Target.BENCH and found["passed"]:
                found["first_checks"] = kept_after(bench, wanted.voltages, request.data)
    except ConfigError as error:
        raise document.located(error) from None
    return _keep(request, document, found, warnings)


def _keep(request: CheckRequest, document: Document, found: dict[str, Any], warnings: list[str]) -> dict[str, Any]:
    name = document.path.stem
    facts = plain({**found, "warnings": warnings, "tolerance": request.tolerance, "overrides": list(request.sets)})
    path = save(request.data, name, key_of(request.target.value, request.sets), facts)
    return {"bench": name, "target": request.target.value, "file": str(path), **facts}
