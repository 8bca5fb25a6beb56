"""What is left in the syringes of a bench, and the charge its electrodes bear: a small file, on disk before anything flows, so
that nobody believes in more of the one or less of the other.

What a syringe holds is a fact of the bench and not of a run: on the hardware there is one book per bench file and data folder
(``DATA/stocks/BENCH.json``), and what it says goes before the ``volume`` of the bench file until the syringe is filled again
(``hil refill``). A virtual bench begins with the syringes of its file every time it is switched on: there every run has a book
of its own, from which it is resumed. The same holds for the charge of electrodes that are followed, until they are discharged.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from math import isclose, isfinite
from pathlib import Path
from typing import Any

from hil.core.errors import ConfigError, RecordError
from hil.core.replaced import replace_text
from hil.experiment.bench_electrodes import Electrode
from hil.experiment.bench_file import BenchFile
from hil.experiment.bench_mixers import StockModel
from hil.experiment.fields import unknown
from hil.experiment.units import parse
from hil.record.checkpoint import FOLDER as CHECKPOINTS

FOLDER = "stocks"
Entries = dict[str, dict[str, Any]]
"""Pump -> ``left`` (m^3), ``used`` (m^3, since the bench file named ``supply``), ``supply`` (m^3 or None), ``when``; control ->
``charge`` (C), ``unsure`` (C: the truth is within so much of it; 0 where a book does not say), ``when``."""


def book_of_bench(data: Path, bench: str) -> Path:
    """Where the book of bench file ``bench`` (its name, with or without the ending) is kept."""
    return data / FOLDER / f"{Path(bench).stem}.json"


def book_of_run(data: Path, run_id: int) -> Path:
    """Where a run on a virtual bench keeps what is left of its stocks."""
    return data / CHECKPOINTS / f"{run_id}.stocks.json"


def read(path: Path) -> Entries:
    """What is booked; empty where nothing ever was. RecordError for a file that is no book."""
    remedy = "remove it, and say with `hil refill` what the syringes hold"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        for entry in found.values():
            if "charge" in entry:
                charge, unsure = charge_of(entry)
                amounts = [abs(charge), unsure]
            else:
                amounts = [float(entry["left"]), float(entry["used"])]
            if not (all(map(isfinite, amounts)) and min(amounts) >= 0.0 and entry["when"]):
                raise ValueError(f"{entry!r}")
    except FileNotFoundError:
        return {}
    except (OSError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise RecordError(f"{path} cannot be read as a book of stocks ({error!r}); {remedy}") from error
    return dict(found)


def as_booked(bench: BenchFile, entries: Entries) -> BenchFile:
    """The bench with what its syringes hold by the book, the supply that is left, and what has charged its electrodes."""
    controls = dict(bench.controls)
    for name, electrode in _electrodes(bench).items():
        if name in entries:
            charge, unsure = charge_of(entries[name])
            charged = electrode.model_copy(update={"charge": charge, "unsure": unsure})
            controls[name] = controls[name].model_copy(update={"electrode": charged})
    mixers = {}
    for name, mixer in bench.mixers.items():
        pumps = dict(mixer.pumps)
        for pump in pumps.keys() & entries.keys():
            left, stock = float(entries[pump]["left"]), pumps[pump]
            supply = None if stock.supply is None else max(stock.supply - _used(entries[pump], stock), left)
            pumps[pump] = stock.model_copy(update={"volume": left, "supply": supply})
        mixers[name] = mixer.model_copy(update={"pumps": pumps})
    return bench.model_copy(update={"mixers": mixers, "controls": controls})


def booked(bench: BenchFile, data: Path, name: str) -> BenchFile:
    """Bench file ``name`` with what is left by its book in the data folder ``data``. Raises RecordError."""
    return as_booked(bench, read(book_of_bench(data, name))) if keeps_book(bench) else bench


def keeps_book(bench: BenchFile) -> "set[str]":
    """Pumps and controls that a book of ``bench`` has; empty where there is nothing to book."""
    return {*_stocks(bench), *_electrodes(bench)}


def refill(bench: BenchFile, path: Path, texts: Sequence[str]) -> list[str]:
    """Book what syringes hold now, ``PUMP=VOLUME`` each, and electrodes: ``CONTROL=CHARGE``. Returns sentences; ConfigError for
    what cannot be, RecordError."""
    stocks, electrodes, entries, said = _stocks(bench), _electrodes(bench), read(path), []
    for text in texts:
        pump, equals, volume = (part.strip() for part in text.partition("="))
        if not equals:
            raise ConfigError(f"{text}: write PUMP=VOLUME, for example 'pump_weak=50 mL'")
        if pump in electrodes:
            charge = parse(volume, "C")
            entries[pump] = _charged(charge, 0.0)
            said.append(f"{pump} has {charge:.4g} C on its electrode")
            continue
        if pump not in stocks:
            raise ConfigError(f"{text}: {unknown('pump of a mixer', pump, [*stocks, *electrodes])}")
        left, most = parse(volume, "m^3"), stocks[pump].syringe.volume
        if not 0.0 <= left <= most * (1.0 + 1e-9):
            raise ConfigError(f"{text}: the syringe of {pump!r} holds 0 to {1e6 * most:g} mL")
        used = _used(entries[pump], stocks[pump]) if pump in entries else 0.0
        entries[pump] = _entry(left, used, stocks[pump])
        said.append(f"{pump} holds {1e6 * left:.4g} mL")
    _write(path, entries)
    return said


class StockBook:
    """The book of an open bench. ``bench``: its file; ``path``: None until it is known, and nothing is kept until then.

    Called with what is left in syringes (pump -> m^3) before liquid flows, as if all that is ordered had flowed already, and once
    more when the pumps have counted; and with the charge of electrodes (control -> C), within ``unsure`` (control -> C) of which
    is all that may have passed until the next call. Raises RecordError, upon which nothing must flow.
    """

    def __init__(self, bench: BenchFile, path: Path | None = None) -> None:
        self._path, self._stocks = path, _stocks(bench)
        self._electrodes = _electrodes(bench)
        self._entries = read(path) if path is not None and keeps_book(bench) else {}
        self.bench = as_booked(bench, self._entries)
        for name, electrode in self._electrodes.items():
            self._entries.setdefault(name, _charged(electrode.charge, electrode.unsure))
        for pump, stock in self._stocks.items():
            self._entries.setdefault(pump, _entry(stock.volume, 0.0, stock))

    def sentences(self) -> list[str]:
        """Where the book and the bench file disagree."""
        return [
            f"pump {pump!r} holds {1e6 * float(self._entries[pump]['left']):.3g} mL by the book of stocks {self._path}, written "
            f"{self._entries[pump]['when']}, and not the {1e6 * stock.volume:.3g} mL of the bench file; if it was filled since, "
            f"say so: hil refill BENCH '{pump}=VOLUME'"
            for pump, stock in self._stocks.items()
            if abs(float(self._entries[pump]["left"]) - stock.volume) > 1e-9 * stock.syringe.volume
        ] + [
            f"the electrode of {name!r} has {_told(*charge_of(self._entries[name]))} by the book {self._path}, written "
            f"{self._entries[name]['when']}, and not the {_told(electrode.charge, electrode.unsure)} of the bench file; if it "
            f"was discharged since, or its liquid changed, say so: hil refill BENCH '{name}=0 C'"
            for name, electrode in self._electrodes.items()
            if not all(map(_same, charge_of(self._entries[name]), (electrode.charge, electrode.unsure)))
        ]

    def keep(self, path: Path) -> None:
        """Write down what there is, from now on here, unless the book has its place already."""
        if self._path is None and self._entries:
            self._path = path
            _write(path, self._entries)

    def __call__(self, amounts: Mapping[str, float], unsure: Mapping[str, float] | None = None) -> None:
        """See the class."""
        for name in amounts.keys() & self._electrodes.keys():
            self._entries[name] = _charged(amounts[name], (unsure or {}).get(name, 0.0))
        for pump, volume in ((name, amount) for name, amount in amounts.items() if name in self._stocks):
            stock, before = self._stocks[pump], self._entries[pump]
            used = max(_used(before, stock) + float(before["left"]) - volume, 0.0)
            self._entries[pump] = _entry(max(volume, 0.0), used, stock)
        if self._path is not None:
            _write(self._path, self._entries)


def _stocks(bench: BenchFile) -> dict[str, StockModel]:
    return {pump: stock for mixer in bench.mixers.values() for pump, stock in mixer.pumps.items()}


def _electrodes(bench: BenchFile) -> dict[str, Electrode]:
    """Those whose charge is followed, by their controls."""
    found = {name: control.electrode for name, control in bench.controls.items() if control.electrode is not None}
    return {name: one for name, one in found.items() if one.capacitance is not None or one.reservoir is not None}


def _entry(left: float, used: float, stock: StockModel) -> dict[str, Any]:
    return {"left": left, "used": used, "supply": stock.supply, "when": _now()}


def charge_of(entry: Mapping[str, Any]) -> tuple[float, float]:
    """C that have passed an electrode by its entry, and within how many C that is known."""
    return float(entry["charge"]), float(entry.get("unsure", 0.0))


def _charged(charge: float, unsure: float) -> dict[str, Any]:
    return {"charge": charge, "unsure": unsure, "when": _now()}


_same = partial(isclose, rel_tol=1e-9)


def _told(charge: float, unsure: float) -> str:
    return f"{charge:.3g} C" + (f" within {unsure:.3g} C" if unsure else "")


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")


def _used(entry: Mapping[str, Any], stock: StockModel) -> float:
    """Of the supply that the bench file names now; another number in the file is a new statement."""
    return float(entry["used"]) if entry.get("supply") == stock.supply else 0.0


def _write(path: Path, entries: Entries) -> None:
    """In one step, and through to the disk: an exchange takes a minute, a power cut no time."""
    try:
        replace_text(path, json.dumps(entries, indent=1), flush=True)
    except OSError as error:
        raise RecordError(
            f"what is left of the stocks could not be written to {path}: {error.strerror or error}; free space, then resume"
        ) from error
