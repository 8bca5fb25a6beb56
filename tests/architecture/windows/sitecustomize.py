"""Windows for this program, as far as another system can play it: put this folder first in PYTHONPATH of a process.

Only our own packages are given this world; the standard library and other packages have Windows branches of their own, which
do not run here. Modules, functions, signals and socket families that Windows has not are missing; files have its names and
its locks, clocks its ticks; waits for threads cannot be interrupted; a process has a console, and closing that ends it.
"""

import builtins
import errno
import fcntl
import os
import posix
import queue
import re
import select
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

OURS = {"hil", "instruments", "simulated_backend", "protocols", "benchmarks"}
NOT_THERE = {
    "crypt", "curses", "fcntl", "grp", "nis", "ossaudiodev", "posix", "pty", "pwd", "readline", "resource", "spwd", "syslog",
    "termios", "tty",
}  # fmt: skip
OF_OS = """
DirEntry F_OK O_APPEND O_CREAT O_EXCL O_RDONLY O_RDWR O_TRUNC O_WRONLY P_DETACH P_NOWAIT P_NOWAITO P_OVERLAY P_WAIT R_OK TMP_MAX
W_OK X_OK abort access chdir chmod close closerange cpu_count device_encoding dup dup2 environ error execv execve fsencode fspath
fstat fsync ftruncate get_inheritable get_terminal_size getcwd getcwdb getlogin getpid getppid isatty kill link listdir lseek
lstat mkdir open pipe putenv read readlink remove rename replace rmdir scandir set_inheritable stat stat_result statvfs_result
strerror symlink system terminal_size times times_result truncate umask uname_result unlink unsetenv urandom utime waitpid
waitstatus_to_exitcode write _exit
"""
OF_SIGNAL = """
SIGABRT SIGFPE SIGILL SIGINT SIGSEGV SIGTERM SIG_DFL SIG_IGN NSIG Signals Handlers default_int_handler getsignal raise_signal
set_wakeup_fd signal strsignal valid_signals
"""
NOT_OF_SOCKET = "AF_UNIX AF_PACKET AF_NETLINK SO_REUSEPORT MSG_DONTWAIT MSG_NOSIGNAL send_fds recv_fds"
CREATE_NEW_PROCESS_GROUP, CREATE_NO_WINDOW, DETACHED_PROCESS = 0x200, 0x8000000, 0x8
TICK = 1 / 64
"""s between two values of the clocks that count ticks."""
RESERVED = re.compile(r'(?i)^(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?$|[<>:"|?*\\\x00-\x1f]|[. ]$')


class Twin(ModuleType):
    """``real`` without what is ``missing`` and with what is ``instead``; whatever else is asked or set is the real one's."""

    def __init__(self, real: ModuleType, missing: set[str], **instead: Any) -> None:
        super().__init__(real.__name__)
        self.__dict__.update(_real=real, _missing=missing, **instead)

    def __getattr__(self, name: str) -> Any:
        if name in self._missing:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r} on Windows")
        return getattr(self._real, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._real, name, value)


def public(module: ModuleType) -> set[str]:
    return {name for name in vars(module) if not name.startswith("__")}


def end(process: int, number: int) -> None:
    """Whatever is sent ends a process there and then, but what is typed at its console."""
    os.kill(process, number if number in (signal.SIGINT, signal.SIGUSR1) else signal.SIGKILL)


def raised(number: int) -> None:
    """In whatever thread: the main thread wakes from its sleep."""
    os.kill(os.getpid(), number)


def of_sockets(*lists: Any) -> Any:
    """``select`` waits for sockets only, and for one of them at least."""
    if not any(lists[:3]):
        raise OSError(10022, "An invalid argument was supplied")
    for one in (handle for some in lists[:3] for handle in some):
        if not stat.S_ISSOCK(os.fstat(one if isinstance(one, int) else one.fileno()).st_mode):
            raise OSError(10038, "An operation was attempted on something that is not a socket")
    return select.select(*lists)


class Popen(subprocess.Popen):  # type: ignore[type-arg]
    """``start_new_session`` does nothing, ``pass_fds`` is refused; a process without a window is on nobody's console."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        flags = options.pop("creationflags", 0)
        options.pop("start_new_session", None)
        if options.get("pass_fds") or options.get("preexec_fn"):
            raise ValueError("pass_fds and preexec_fn are not supported on Windows platforms")
        if flags & CREATE_NO_WINDOW and flags & DETACHED_PROCESS:
            raise ValueError("one of CREATE_NO_WINDOW and DETACHED_PROCESS would be ignored")
        super().__init__(*arguments, start_new_session=bool(flags & (CREATE_NO_WINDOW | DETACHED_PROCESS)), **options)


def lock_byte(handle: int, mode: int, count: int) -> None:
    """Of the open file, not of the process, and dropped when that is closed by all who have it: as near as it gets."""
    kind = {0: fcntl.F_UNLCK, 2: fcntl.F_WRLCK}[mode]
    place = os.lseek(handle, 0, os.SEEK_CUR)
    try:
        fcntl.fcntl(handle, 37, struct.pack("hhqqi4x", kind, os.SEEK_SET, place, count, 0))  # F_OFD_SETLK
    except BlockingIOError:
        raise PermissionError(errno.EACCES, "Permission denied") from None


msvcrt = ModuleType("msvcrt")
msvcrt.__dict__.update(LK_UNLCK=0, LK_NBLCK=2, locking=lock_byte)

TWINS: dict[str, ModuleType] = {
    # The parent is the launcher of the virtual environment, not the program: who ends that ends what it has launched.
    "os": Twin(os, (public(posix) & public(os)) - set(OF_OS.split()) | {"fwalk"}, name="nt", getppid=os.getpid, kill=end),
    "sys": Twin(sys, {"getdlopenflags", "setdlopenflags", "abiflags"}, platform="win32"),
    "signal": Twin(signal, public(signal) - set(OF_SIGNAL.split()), SIGBREAK=signal.SIGUSR1, CTRL_C_EVENT=0, raise_signal=raised),
    "socket": Twin(socket, set(NOT_OF_SOCKET.split())),
    "select": Twin(select, public(select) - {"select", "error"}, select=of_sockets),
    "time": Twin(
        time,
        {name for name in public(time) if "clock_" in name or name.startswith("CLOCK_")} | {"tzset"},
        monotonic=lambda: time.monotonic() // TICK * TICK,
        time=lambda: time.time() // TICK * TICK,
    ),
    "subprocess": Twin(
        subprocess,
        set(),
        Popen=Popen,
        CREATE_NEW_PROCESS_GROUP=CREATE_NEW_PROCESS_GROUP,
        CREATE_NO_WINDOW=CREATE_NO_WINDOW,
        DETACHED_PROCESS=DETACHED_PROCESS,
    ),
    "queue": Twin(queue, set(), SimpleQueue=queue._PySimpleQueue),  # type: ignore[attr-defined]  # waits as the others do
    "msvcrt": msvcrt,
}
_import = builtins.__import__


def as_there(name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
    if level == 0 and globals and str(globals.get("__package__") or "").split(".")[0] in OURS:
        if name in NOT_THERE:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        if name in TWINS:
            return TWINS[name]
    return _import(name, globals, locals, fromlist, level)


def uninterrupted(wait: Any) -> Any:
    """A wait for another thread hears no signal; they are heard when it is over."""

    def waits(*arguments: Any, **options: Any) -> Any:
        if threading.current_thread() is not threading.main_thread():
            return wait(*arguments, **options)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGUSR1})
        try:
            return wait(*arguments, **options)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    return waits


def names_and_open_files(event: str, arguments: tuple[Any, ...]) -> None:
    """What cannot be a name there is none here, and nobody takes away a file that is open."""
    if event == "open" and isinstance(arguments[0], str) and arguments[2] & (os.O_WRONLY | os.O_RDWR):
        path = Path(arguments[0])
        if path.parts[:2] not in (("/", "dev"), ("/", "proc")) and any(RESERVED.search(part) for part in path.parts[1:]):
            raise OSError(errno.EINVAL, "Invalid argument", arguments[0])
    if event in ("os.remove", "os.rename") and sys._getframe(1).f_globals.get("__name__") != "tempfile":
        for one in arguments[: 1 if event == "os.remove" else 2]:
            if is_open(os.path.abspath(os.fsdecode(one))):  # noqa: PTH100 - a path that need not be
                raise PermissionError(errno.EACCES, "The process cannot access the file because it is being used", one)


def is_open(path: str) -> bool:
    for handle in Path("/proc/self/fd").iterdir():
        try:
            if str(handle.readlink()) == path:
                return True
        except OSError:
            continue
    return False


builtins.__import__ = as_there
threading.Condition.wait = uninterrupted(threading.Condition.wait)  # type: ignore[method-assign]
threading.Thread.join = uninterrupted(threading.Thread.join)  # type: ignore[method-assign]
sys.addaudithook(names_and_open_files)
warnings.filterwarnings("error", category=EncodingWarning, module=rf"({'|'.join(OURS)})(\..*)?$")
