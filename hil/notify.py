"""Tell somebody that a run has ended or stands paused: by the ways that a bench file names.

``notify: {file: {name: notices.jsonl}, email: {to: me@lab.example}}``. A way is a function of this file, or one that an
installed package offers under the entry point ``memristor_hil.notifiers``; a file can name one and cannot bring one.
"""

import json
import os
import smtplib
from collections.abc import Callable, Mapping
from email.message import EmailMessage
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from hil.core.errors import ConfigError
from hil.experiment.fields import FieldError, unknown

GROUP = "memristor_hil.notifiers"
Options = Mapping[str, Any]
Notifier = Callable[[Options, Mapping[str, Any], Path], None]
"""options of the bench file, the notice, the data folder. Called with an empty notice to check the options: ConfigError."""


def to_file(options: Options, notice: Mapping[str, Any], data: Path) -> None:
    """One JSON line in file ``name`` of the data folder."""
    _only(options, "name")
    name = str(options.get("name", "notices.jsonl"))
    if Path(name).name != name or name in (".", ".."):
        raise ConfigError(f"notify.file.name: {name!r} is not the plain name of a file in the data folder")
    if notice:
        with (data / name).open("a", encoding="utf-8") as file:
            file.write(json.dumps(notice) + "\n")


def to_email(options: Options, notice: Mapping[str, Any], data: Path) -> None:
    """An email to ``to``, through the host that the environment names.

    HIL_SMTP_HOST, HIL_SMTP_PORT (25), HIL_SMTP_FROM (hil@localhost); with HIL_SMTP_USER and HIL_SMTP_PASSWORD the connection is
    encrypted (STARTTLS) and logged in. None of these stands in a file that is recorded.
    """
    _only(options, "to")
    if not isinstance(options.get("to"), str) or "@" not in options["to"] or not options["to"].isprintable():
        raise ConfigError("notify.email.to: write an address, such as me@lab.example")
    host = os.environ.get("HIL_SMTP_HOST")
    if not host:
        raise ConfigError("notify.email: set HIL_SMTP_HOST to the name of your mail server")
    if not notice:
        return
    message = EmailMessage()
    message["Subject"] = f"run {notice['run_id']} of {notice['protocol']}: {notice['outcome']}"
    message["From"] = os.environ.get("HIL_SMTP_FROM", "hil@localhost")
    message["To"] = options["to"]
    message.set_content("\n".join(f"{key}: {value}" for key, value in notice.items()))
    with smtplib.SMTP(host, int(os.environ.get("HIL_SMTP_PORT", "25")), timeout=30) as server:
        if "HIL_SMTP_USER" in os.environ:
            server.starttls()
            server.login(os.environ["HIL_SMTP_USER"], os.environ.get("HIL_SMTP_PASSWORD", ""))
        server.send_message(message)


def notifiers(wanted: Mapping[str, Options], data: Path) -> list[tuple[str, Notifier, Options]]:
    """The ways that ``wanted`` names, their options checked. Raises ConfigError; nothing is sent."""
    known: dict[str, Notifier] = {"file": to_file, "email": to_email}
    offered = {entry.name: entry for entry in entry_points(group=GROUP)}
    found = []
    for name, options in wanted.items():
        if name not in known and name not in offered:
            raise FieldError(unknown("way", name, [*known, *offered]), f"notify.{name}")
        notifier: Notifier = known[name] if name in known else offered[name].load()
        notifier(options, {}, data)
        found.append((name, notifier, options))
    return found


def notice_of(summary: Mapping[str, Any]) -> dict[str, Any]:
    """What is told of a run: which, how it ended, why, and how to go on where it can."""
    facts = {key: summary[key] for key in ("run_id", "protocol", "target", "outcome", "steps", "loss")}
    return facts | {key: summary["results"][key] for key in ("reason", "resume") if key in summary["results"]}


def send(ways: list[tuple[str, Notifier, Options]], summary: Mapping[str, Any], data: Path) -> list[str]:
    """Tell everybody; sentences about those who could not be told. The run is over: nothing is raised."""
    problems = []
    for name, notifier, options in ways:
        try:
            notifier(options, notice_of(summary), data)
        except Exception as error:  # noqa: BLE001 - a notifier may come from another package, and the run has ended well without it
            problems.append(f"notify: {name} did not work: {error}")
    return problems


def _only(options: Options, *names: str) -> None:
    for key in options:
        if key not in names:
            raise ConfigError(f"notify: {unknown('option', str(key), list(names))}")
