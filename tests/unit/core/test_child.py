"""What a process that the program starts can rely on."""

import subprocess
import sys
from pathlib import Path

import pytest

from hil.core.child import environment

INPUT = """
import os, sys
from hil.core.child import take_input
program = take_input()
print("≥", os.read(0, 10), program.readline().strip(), sys.stdin.read() == "")
"""


def test_it_is_found_writes_utf8_and_leaves_standard_input_to_nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "cp1252")  # as a pipe is on Windows
    monkeypatch.setenv("PYTHONUTF8", "0")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-c", INPUT],
        input="words ≥ 1\n".encode(),
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode().strip() == "≥ b'' words ≥ 1 True"
