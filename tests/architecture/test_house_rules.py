"""Rules that hold for every file: who may import whom, sizes, the README's commands, and what must not be in the source."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("hil", "instruments", "simulated_backend")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
ORDER = [
    {"hil.cli"},
    {"hil.sweep"},
    {"hil.run"},
    {"hil.bench"},
    {"instruments", "simulated_backend"},
    {"hil.procedures"},
    {"hil.experiment"},
    {"hil.record", "hil.figures"},
    {"hil.learn"},
    {"hil.core"},
]


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for item in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(item, ast.Import):
            names |= {alias.name for alias in item.names}
        elif isinstance(item, ast.ImportFrom) and item.module:
            names.add(item.module)
    return names


def reach(names: set[str], package: str) -> set[str]:
    return {name for name in names if name == package or name.startswith(package + ".")}


def identify(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", SOURCES, ids=identify)
def test_a_file_has_one_job(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").count("\n")
    assert lines <= 400, f"{identify(path)} has {lines} lines; split it by the jobs it does"


def test_drivers_and_emulators_meet_only_over_the_wire() -> None:
    for path in SOURCES:
        package = path.relative_to(ROOT).parts[0]
        other = {"instruments": "simulated_backend", "simulated_backend": "instruments"}.get(package)
        if other:
            assert not reach(imported(path), other), identify(path)


@pytest.mark.parametrize("layer", ["core", "learn", "record", "figures", "experiment", "procedures"])
def test_lower_layers_of_hil_know_nothing_of_the_higher_ones(layer: str) -> None:
    rank = next(k for k, names in enumerate(ORDER) if f"hil.{layer}" in names)
    forbidden = {name for names in ORDER[:rank] for name in names}
    peers = ORDER[rank] - {f"hil.{layer}"}
    for path in (ROOT / "hil" / layer).rglob("*.py"):
        for name in forbidden | peers:
            assert not reach(imported(path), name), f"{identify(path)} imports {name}"


def test_core_and_learn_need_numpy_and_scipy_only() -> None:
    allowed = set(sys.stdlib_module_names) | {"numpy", "scipy", "hil"}
    for layer in ("core", "learn"):
        for path in (ROOT / "hil" / layer).rglob("*.py"):
            if path.name == "compiled.py":  # single-precision kernels, loaded only where they are used
                continue
            outside = {name.split(".")[0] for name in imported(path)} - allowed
            assert not outside, f"{identify(path)} imports {sorted(outside)}"


def test_nothing_waits_but_the_clock_and_nothing_exits_but_the_command_line() -> None:
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        if identify(path) != "hil/core/clock.py":
            assert not re.search(r"\btime\.sleep\(", text) or "virtual_bench" in identify(path), identify(path)
        assert not re.search(r"\bsys\.exit\(|\bos\._exit\(", text), identify(path)
        assert not re.search(r"^\s*except\s*:", text, re.MULTILINE), identify(path)


def test_limits_are_never_asserts() -> None:
    for path in SOURCES:
        for item in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            assert not isinstance(item, ast.Assert), f"{identify(path)}:{item.lineno} would vanish under python -O"


def test_no_host_of_a_registry_and_no_path_of_a_machine_stands_in_a_file() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    for name in listed:
        path = ROOT / name
        if path.suffix in {".npz", ".png", ".csv"} or not path.is_file() or path == Path(__file__):
            continue
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"://[^ \"']*/simple\b|://registry\.|://files\.|/home/\w+/|/root/", text), name


def test_help_loads_none_of_the_heavy_packages() -> None:
    code = (
        "import sys, contextlib, io\n"
        "from hil.cli import main\n"
        "sys.argv = ['hil', '--help']\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
        "    main()\n"
        "heavy = {'numpy', 'scipy', 'pandas', 'qcodes', 'pint', 'numba', 'matplotlib', 'pyvisa', 'sklearn'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "[]", done.stdout


def test_ci_runs_the_test_command_of_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for marker in ("run", "tests"):
        block = re.search(rf"<!-- {marker} -->\n```sh\n(.*?)```", readme, re.DOTALL)
        assert block, f"README.md has lost its {marker} command"
        assert block.group(1).count("\n") == 1, "each command is one line to copy"
    assert "<!-- tests -->" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
