"""Both files of a run, found, read and checked; nothing is connected yet."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hil.bench import Assembled, Target, assemble, shipped_protocols
from hil.core.errors import ConfigError
from hil.core.file_lock import Held
from hil.core.lab import Lab
from hil.core.types import Stimulus
from hil.experiment.bench_file import BenchFile
from hil.experiment.fields import FieldError, ProtocolFieldError
from hil.experiment.loader import Document, apply_overrides, find, read
from hil.experiment.protocol import Protocol
from hil.pressure_bands import small_steps, wide_bands
from hil.procedures.registry import Procedure, procedure


@dataclass(frozen=True)
class Request:
    """What the user asked for. ``protocol`` and ``bench`` are paths or names of shipped files; ``sets`` are path=value.

    ``stop_by``: local time of day by which the run is to end; ``hold``: seconds for which its set-points are kept after it.
    """

    protocol: str
    bench: str | None = None
    target: Target = Target.SIMULATED
    real_time: bool = False
    sets: tuple[str, ...] = ()
    seed: int | None = None
    data: Path = Path("data")
    stop_by: str | None = None
    hold: float | None = None


@dataclass(frozen=True)
class Prepared:
    """Both files, read and checked; nothing is connected yet."""

    request: Request
    protocol: Document
    bench_document: Document
    settings: Protocol
    bench: BenchFile
    procedure: Procedure

    @property
    def name(self) -> str:
        """Name of the protocol: its file name without the ending."""
        return self.protocol.path.stem

    @property
    def seed(self) -> int:
        """Seed of every random generator of the run."""
        return self.settings.seed if self.request.seed is None else self.request.seed

    @property
    def hold(self) -> float:
        """Seconds for which the set-points are kept after the run."""
        return self.settings.hold if self.request.hold is None else self.request.hold

    @contextmanager
    def located(self) -> Generator[None]:
        """Errors about a field that are raised inside get the file and the line."""
        try:
            yield
        except FieldError as error:
            in_bench = (
                error.field.split(".")[0] in BenchFile.model_fields
                and error.field.split(".")[0] not in type(self.settings).model_fields
            )
            raise (self.bench_document if in_bench else self.protocol).located(error) from None

    def assembled(self, target: Target | None = None, keeps: Sequence[Held] = (), seed: int | None = None) -> Assembled:
        """The lab, put together but not opened; see ``hil.bench.assemble``. ``seed`` (of the world only) goes before others."""
        with self._bench_located():
            target = self.request.target if target is None else target
            sentences = wide_bands(self.bench, self.settings)
            if target is not Target.SIMULATED:  # which has no pumps
                sentences += small_steps(self.bench, self.settings)
            assembled = assemble(
                self.bench,
                target,
                name=self.bench_document.path.name,
                tuned_as=self.settings.tuned_as(),
                seed=self.request.seed if seed is None else seed,
                real_time=self.request.real_time,
                limits=self.settings,
                folder=self.request.data,
                keeps=keeps,
            )
        for sentence in sentences:
            assembled.warnings(sentence)
        return assembled

    @contextmanager
    def _bench_located(self) -> Generator[None]:
        try:
            yield
        except ProtocolFieldError as error:
            raise self.protocol.located(error) from None
        except ConfigError as error:
            raise self.bench_document.located(error) from None


def prepare(request: Request) -> Prepared:
    """Find, read and check the protocol and its bench file, with all overrides. Raises ConfigError; nothing is connected."""
    shipped = shipped_protocols()
    document = read(find(request.protocol, None, shipped, "protocol"))
    for_bench = apply_overrides(request.sets, document)
    if str(document.data.get("format", "")).startswith("hil-bench"):
        raise document.error("this is a bench file; give a protocol, and this one with --bench", "format")
    name = document.data.get("procedure")
    if not isinstance(name, str):
        raise document.error("a protocol says which procedure it is for: add `procedure: train_network`", "procedure")
    try:
        chosen = procedure(name)
    except ConfigError as error:
        raise document.error(str(error), "procedure") from None
    settings = document.model(chosen.Settings)
    if request.bench is not None:
        bench_path = find(request.bench, None, shipped / "benches", "bench file")
    else:
        try:
            bench_path = find(settings.bench, document.path, shipped / "benches", "bench file")
        except ConfigError as error:
            raise document.error(str(error), "bench") from None
    bench_document = read(bench_path)
    for path, text in settings.for_bench().items():
        bench_document.override(path, text, f"{document.path}")
    apply_overrides(for_bench, document, bench_document)
    return Prepared(request, document, bench_document, settings, bench_document.model(BenchFile), chosen)


def check_plan(prepared: Prepared, lab: Lab) -> list[Stimulus]:
    """Every stimulus of the plan, checked against the envelope before anything is applied.

    Raises CapabilityError, ConfigError, LimitExceededError.
    """
    with prepared.located():
        plan = list(prepared.procedure.plan(prepared.settings, lab))
    for stimulus in plan:
        lab.backend.envelope.check(stimulus.values, stimulus.connected)
    return plan
