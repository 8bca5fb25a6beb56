"""Processes that this program starts: where they find it, how they write, and that nobody but it ends them."""

import os
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TextIO

STOPS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
"""What asks a program for its end: Ctrl-C, an orderly end, a closed terminal, and Ctrl-Break or a closed window on Windows."""
TYPED = ("SIGINT", "SIGBREAK")
"""Those that reach every process of a terminal because somebody has typed them there."""


def environment() -> dict[str, str]:
    """This process's environment for a child that is a module of ours: it is found, and its pipes carry UTF-8 on every system."""
    root = str(Path(__file__).resolve().parents[2])
    paths = [root, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    search = os.pathsep.join(path for path in paths if path)
    return {**os.environ, "PYTHONPATH": search, "PYTHONUTF8": "1", "PYTHONIOENCODING": "utf-8"}


def take_input() -> TextIO:
    """In a child: what the program writes to us, for this process alone; nothing can be read from standard input any more.

    On Windows a library that is loaded looks at standard input, and waits there for as long as somebody reads from its pipe.
    """
    pipe = os.fdopen(os.dup(0), encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return pipe


def ignore(names: Iterable[str]) -> None:
    """In a child: the signals ``names``, as far as this system has them, are the program's affair."""
    for name in names:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def hurry() -> None:
    """In a child: first in line for a processor, where the system lets us (Windows does not sort them this way)."""
    if sys.platform != "win32":
        with suppress(OSError):
            os.nice(-10)
