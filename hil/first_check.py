"""First checks of drivers on hardware: what a lab tried is kept in its data folder, in a form that can be contributed."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hil.bench import bench_document
from hil.bench_station import check_packages, instrument_specs
from hil.core.errors import ConfigError, HilError
from hil.experiment.bench_file import BenchFile
from hil.locks import locked_bench
from hil.record.logbook import author
from hil.record.provenance import versions

if TYPE_CHECKING:
    from instruments.wiring import InstrumentSpec

REPOSITORY_FOLDER = "instruments/checked"


@dataclass(frozen=True)
class FirstCheckRequest:
    """What the user asked for: with ``instrument`` and ``did`` a record is made, otherwise those there are are shown."""

    bench: str
    instrument: str = ""
    did: str = ""
    by: str = ""
    data: Path = Path("data")


def first_check(request: FirstCheckRequest) -> dict[str, Any]:
    """Make a record by hand, or show what this lab could contribute; JSON-able. Raises HilError."""
    check_packages()
    bench = bench_document(request.bench).model(BenchFile)
    if bool(request.instrument) != bool(request.did):
        raise ConfigError("a record needs both: the name of the instrument, and --did with what was driven and read")
    lines: list[str] = []
    if request.instrument:
        stations = bench.station.instruments
        if request.instrument not in stations:
            raise ConfigError(f"there is no instrument {request.instrument!r} in this bench; instruments: {', '.join(stations)}")
        with locked_bench([stations[request.instrument].address], "a first check", request.by or bench.notebook.operator):
            lines += keep(bench, {request.instrument: request.did}, request.data, request.by, insist=True)
    files = contributions(bench, request.data)
    return {"lines": lines, "files": files}


def exercised(bench: BenchFile, voltages: Mapping[str, float]) -> dict[str, str]:
    """Instrument -> what a passed check with ``voltages`` (V, by control) has driven, read or closed of it.

    Instruments that only answered are left out: a pump that never turned has not been tried.
    """
    driven: dict[str, dict[str, None]] = {}
    seen: dict[str, dict[str, None]] = {}
    closed: dict[str, dict[str, None]] = {}
    for name, volts in voltages.items():
        for path in _paths(bench, name, bench.controls[name].parameter):
            instrument, _, parameter = path.partition(".")
            driven.setdefault(instrument, {})[f"{parameter} at {volts:g} V"] = None
    for name, output in bench.outputs.items():
        for path in _paths(bench, name, output.parameter):
            instrument, _, parameter = path.partition(".")
            seen.setdefault(instrument, {})[parameter] = None
        if output.through:
            instrument, _, crosspoint = output.through.partition(".")
            closed.setdefault(instrument, {})[crosspoint] = None
    told: dict[str, list[str]] = {}
    for verb, parts in (("drove", driven), ("read", seen), ("closed", closed)):
        for instrument, words in parts.items():
            told.setdefault(instrument, []).append(f"{verb} {', '.join(words)}")
    return {instrument: f"hil check passed: {'; '.join(parts)}" for instrument, parts in told.items()}


def keep(bench: BenchFile, did: Mapping[str, str], data: Path, by: str = "", *, insist: bool = False) -> list[str]:
    """Ask every instrument of ``did`` who it is and keep a record of what was done with it; lines for the user.

    An address on this computer is an emulator, no hardware: nothing is kept, and with ``insist`` that is a ConfigError.
    Drivers of other packages are left out. Raises what connecting raises.
    """
    from instruments.base import BenchInstrument
    from instruments.first_check import add, is_emulated, record_of
    from instruments.station import driver_class

    who = by or bench.notebook.operator or author() or "unknown"
    lines: list[str] = []
    for spec in instrument_specs(bench):
        if spec.name not in did:
            continue
        driver = driver_class(spec)
        if is_emulated(spec.address) or not issubclass(driver, BenchInstrument):
            why = "is on this computer, where only emulators live" if is_emulated(spec.address) else "is another package's"
            if insist:
                raise ConfigError(f"instrument {spec.name!r} {why}; no record of a check on hardware is made of it")
            continue
        record = record_of(driver, _identity(spec, driver), who, did[spec.name], versions().get("memristor-hil", "unknown"))
        path = add(driver, data, record)
        lines.append(f"{driver.__name__} tried on hardware: kept in {path}")
    return lines


def contributions(bench: BenchFile, data: Path) -> dict[str, str]:
    """File of the repository -> its new content, for every driver of ``bench`` of which this lab has a record of its own."""
    from instruments.first_check import known, local, shipped, text
    from instruments.station import driver_class

    found: dict[str, str] = {}
    for driver in dict.fromkeys(driver_class(spec) for spec in instrument_specs(bench)):
        own = set(local(driver, data)) - set(shipped(driver))
        if own:
            found[f"{REPOSITORY_FOLDER}/{driver.__name__}.json"] = text(known(driver, data))
    return found


def kept_after(bench: BenchFile, voltages: Mapping[str, float], data: Path) -> list[str]:
    """What ``keep`` says after a check that has passed; that it cannot be written is a line, and no failure of the bench."""
    try:
        return keep(bench, exercised(bench, voltages), data)
    except HilError as error:
        return [f"no record of the first check was made: {error}"]


def _identity(spec: "InstrumentSpec", driver: type[Any]) -> Mapping[str, str | None]:
    instrument = driver(spec.name, spec.address, **spec.options)
    try:
        found: Mapping[str, str | None] = instrument.get_idn()
        return found
    finally:
        instrument.close()


def _paths(bench: BenchFile, name: str, parameter: str) -> list[str]:
    """Where a terminal is wired: once, or once for every replica."""
    return [paths[name] for paths in bench.replicas.values() if name in paths] or [parameter]
