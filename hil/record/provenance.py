"""What a run was made with: package versions, Python, machine, and the commit of this program where there is one."""

import platform
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

PACKAGES = ("memristor-hil", "numpy", "scipy", "pydantic", "pint", "qcodes", "pyvisa", "pyvisa-py", "pyserial")


def versions() -> dict[str, str]:
    """Package name -> version; packages that are not installed are left out."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def git_commit() -> str:
    """Commit of the working tree this program runs from, with ``-dirty`` when it was changed; empty outside a repository."""
    folder = Path(__file__).resolve().parent.parent
    git = shutil.which("git")
    if git is None or not (folder.parent / ".git").exists():
        return ""
    try:
        answer = subprocess.run(
            [git, "-C", str(folder.parent), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=10,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""


def command_line() -> str:
    """How the program was called."""
    return " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]) if sys.argv else ""
