"""Emulated instruments in real time, for as long as somebody wants them: rehearse with any program that speaks VISA."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hil.bench import bench_document
from hil.bench_station import check_packages, start_virtual
from hil.core.clock import WallClock
from hil.core.errors import ConfigError
from hil.experiment.bench_file import BenchFile
from hil.experiment.loader import Document
from hil.stopping import stoppable

LOOK_EVERY = 1.0
"""s; a longer sleep would not hear of every signal everywhere (Ctrl-Break on Windows)."""


def serve(bench: str, sets: tuple[str, ...], seed: int | None, write: Path | None, say: Callable[[str], Any]) -> None:
    """Start the emulators of ``bench``, print their addresses, and serve until Ctrl-C or SIGTERM.

    ``write``: where to put a copy of the bench file with the emulators' addresses, for ``--on bench``.
    """
    check_packages()
    clock = WallClock()
    document = bench_document(bench, sets)
    model = document.model(BenchFile)
    try:
        with stoppable():
            virtual = start_virtual(model, seed, real_time=True)
            try:
                for name, address in virtual.addresses.items():
                    say(f"{name} {address}")
                if write is not None:
                    _write(document, virtual.addresses, write)
                    say(f"bench file with these addresses: {write}")
                say("emulators are running; stop them with Ctrl-C")
                while True:
                    clock.sleep(LOOK_EVERY)
            finally:
                virtual.stop()
    except KeyboardInterrupt:
        say("stopped")


def _write(document: Document, addresses: dict[str, str], target: Path) -> None:
    import yaml

    data = document.data
    for name, address in addresses.items():
        data["station"]["instruments"][name]["address"] = address
    head = f"# Copy of {document.path.name} for emulators that run now; use it with --on bench.\n"
    try:
        target.write_text(head + yaml.safe_dump(data, sort_keys=False, allow_unicode=True), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"the bench file cannot be written to {target}: {error.strerror}") from None
