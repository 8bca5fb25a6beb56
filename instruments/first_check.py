"""Who has tried which driver on a real instrument: records, one file per driver, in the package and in a lab's own folder.

A record that a lab has made stays in its data folder (``checks/hardware/CLASS.json``), so that nothing has to be written into
an installed package. Contributed to the project it stands in ``checked/CLASS.json`` beside the driver, and everybody's doctor
and the driver's page say so. No record holds a serial number or an address.
"""

import inspect
import ipaddress
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import date, datetime
from pathlib import Path
from typing import Any

from hil.core.errors import ConfigError, RecordError
from hil.core.replaced import replace_text

NOT_YET = "Not tried on hardware yet."
_SHIPPED = "checked"
_LOCAL = Path("checks") / "hardware"
_SERIAL = re.compile(r"^ASRL(?P<path>/.+?)(?:::|$)", re.IGNORECASE)
_HOST = re.compile(r"^(?:PRLGX-)?TCPIP\d*::(?P<host>\[[^\]]*\]|[^:,]+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class FirstCheck:
    """One record, all of it for people to read: ``when`` an ISO date; ``by`` person and lab; ``model`` and ``firmware`` as
    the instrument says them; ``did`` what was driven and read; ``version`` of this package."""

    driver: str
    when: str
    by: str
    model: str
    firmware: str
    did: str
    version: str

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if not isinstance(value, str) or (not value.strip() and one.name != "firmware"):
                raise ConfigError(f"a record of a check on hardware needs {one.name!r} as a text, not {value!r}")
        try:
            date.fromisoformat(self.when)
        except ValueError:
            raise ConfigError(f"a record of a check on hardware needs a date such as 2026-01-31, not {self.when!r}") from None

    def sentence(self) -> str:
        """The record in one line."""
        firmware = f", firmware {self.firmware}" if self.firmware else ""
        return f"{self.when} by {self.by} ({self.model}{firmware}): {self.did}"


def shipped(driver: type[Any]) -> list[FirstCheck]:
    """Records that came with ``driver``: of the folder ``checked`` beside its module. RecordError for a file that is none."""
    return _read(Path(inspect.getfile(driver)).parent / _SHIPPED / f"{driver.__name__}.json", driver.__name__)


def local(driver: type[Any], data: Path) -> list[FirstCheck]:
    """Records that were made here, of the data folder ``data``. RecordError for a file that is none."""
    return _read(local_path(driver, data), driver.__name__)


def known(driver: type[Any], data: Path | None = None) -> list[FirstCheck]:
    """All records of ``driver``, oldest first, none twice."""
    found = [*shipped(driver), *(local(driver, data) if data is not None else ())]
    return sorted(dict.fromkeys(found), key=lambda record: record.when)


def local_path(driver: type[Any], data: Path) -> Path:
    """The lab's own file of ``driver``."""
    return data / _LOCAL / f"{driver.__name__}.json"


def add(driver: type[Any], data: Path, record: FirstCheck) -> Path:
    """Put ``record`` into the lab's own file; the same check with the same firmware replaces the older. RecordError."""
    if record.driver != driver.__name__:
        raise ConfigError(f"a record of {record.driver!r} does not belong to {driver.__name__!r}")
    kept = [one for one in local(driver, data) if (one.by, one.model, one.firmware, one.did) != _same(record)]
    path = local_path(driver, data)
    try:
        replace_text(path, text([*kept, record]))
    except OSError as error:
        raise RecordError(f"{path} cannot be written: {error.strerror or error}") from error
    return path


def text(records: Sequence[FirstCheck]) -> str:
    """The file that holds ``records``, in the package and in a data folder alike."""
    return json.dumps([asdict(record) for record in records], indent=1, ensure_ascii=False) + "\n"


def statement(drivers: Sequence[type[Any]]) -> str:
    """What the page of ``drivers`` says of hardware; a test compares the pages with it, so that nothing can disagree."""
    told = {driver: [record.sentence() for record in shipped(driver)] for driver in drivers}
    if not any(told.values()):
        return f"**{NOT_YET}**"
    parts = [f"{driver.__name__}, {'; '.join(sentences)}" for driver, sentences in told.items() if sentences]
    missing = [driver.__name__ for driver, sentences in told.items() if not sentences]
    return f"**Tried on hardware:** {'. '.join(parts)}." + (f" **Not yet:** {', '.join(missing)}." if missing else "")


def is_emulated(address: str) -> bool:
    """Whether ``address`` leads to this computer: loopback or a pseudo-terminal, where emulators live and no instrument."""
    serial = _SERIAL.match(address.strip())
    if serial is not None:
        return os.path.realpath(serial["path"]).startswith(("/dev/pts/", "/dev/pty"))
    match = _HOST.match(address.strip())
    if match is None:
        return False
    host = match["host"].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def record_of(driver: type[Any], idn: Mapping[str, str | None], by: str, did: str, version: str) -> FirstCheck:
    """A record of today; ``idn`` as ``get_idn`` gives it, of which the serial number is left out."""
    model = " ".join(part for part in (idn.get("vendor"), idn.get("model")) if part) or "model unknown"
    today = datetime.now().astimezone().date()  # on the lab's own calendar
    return FirstCheck(driver.__name__, today.isoformat(), by, model, idn.get("firmware") or "", did, version)


def _same(record: FirstCheck) -> tuple[str, str, str, str]:
    return record.by, record.model, record.firmware, record.did


def _read(path: Path, driver: str) -> list[FirstCheck]:
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise RecordError(f"{path} cannot be read ({error}); correct it or remove it") from error
    try:
        records = list(_records(entries))
    except (TypeError, ConfigError) as error:
        raise RecordError(f"{path} is no list of checks on hardware ({error}); correct it or remove it") from error
    for record in records:
        if record.driver != driver:
            raise RecordError(f"{path} holds a record of {record.driver!r}; it belongs into a file of that name")
    return records


def _records(entries: Any) -> Iterable[FirstCheck]:
    if not isinstance(entries, list):
        raise ConfigError("it is not a list")
    for entry in entries:
        if not isinstance(entry, dict):
            raise ConfigError("an entry has no fields")
        yield FirstCheck(**entry)
