"""What the documents tell people to type: every command exists with these options, every file of the page on files works."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner

from hil.cli import app
from hil.experiment.bench_file import BenchFile
from hil.experiment.protocol import Protocol

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs").glob("*/*.md"))]
FILES = ROOT / "docs" / "user" / "files.md"
PLACES = {"ID": "1", "DIR": "data"}
"""Words of the documents that stand for something of another type."""


def commands() -> list[tuple[str, str]]:
    """Page and command: the inline code that begins with ``hil`` and a word, and such lines of the blocks."""
    found: dict[tuple[str, str], None] = {}
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        blocks = re.findall(r"^```(?:sh)?\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
        prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
        lines = [line for block in blocks for line in block.splitlines()]
        for line in [*lines, *re.findall(r"`([^`]+)`", prose)]:
            for match in re.finditer(r"(?:^|&& )(?:\.venv/bin/)?(hil [a-z][^&]*)", line):
                found[(page.name, match.group(1).split("  #")[0].strip())] = None
    return list(found)


def problem(command: str) -> str:
    """What the command line has against ``command``; empty for nothing. Nothing is run; a missing argument is no problem of
    inline code that only names a command."""
    whole = re.sub(r"[][]", "", command)  # what may be left out can be typed, too
    words = [PLACES.get(word, word) for word in shlex.split(whole) if word != "…"][1:]
    here: Any = typer.main.get_command(app)
    context = here.make_context("hil", [], resilient_parsing=True)
    while hasattr(here, "commands"):
        if words and words[0] not in here.commands:
            return f"there is no command {words[0]!r}"
        if not words:
            return ""
        here = here.commands[words.pop(0)]
    if not words:
        return ""
    try:
        here.make_context(command, words, parent=context)
    except Exception as error:  # noqa: BLE001 - whatever the library of the command line raises is what a user would see
        return str(getattr(error, "message", error))
    return ""


@pytest.mark.parametrize(("page", "command"), commands(), ids=lambda value: value.replace(" ", "_"))
def test_what_is_written_can_be_typed(page: str, command: str) -> None:
    assert not problem(command), page


def test_a_command_that_does_not_exist_is_found() -> None:
    assert "there is no command 'rnu'" in problem("hil rnu 1")
    assert "--bnech" in problem("hil run mine.yaml --bnech lab.yaml")
    assert problem("hil resume three")
    assert len(commands()) > 40


def test_the_files_of_the_page_are_a_bench_and_a_protocol_that_trains_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for block in re.findall(r"^```yaml\n(.*?)^```", FILES.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
        (tmp_path / block.split("\n")[0].removeprefix("# ")).write_text(block, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["run", "mine.yaml"])
    assert done.exit_code == 0, done.output
    assert "converged" in done.stdout
    rehearsed = CliRunner().invoke(app, ["dry-run", "mine.yaml", "--set", "stop.max_steps=1"])
    assert rehearsed.exit_code in (0, 1), rehearsed.output
    bench = yaml.safe_load((tmp_path / "lab.yaml").read_text(encoding="utf-8"))
    assert set(bench) <= set(BenchFile.model_fields)


def test_the_page_on_files_names_every_section_and_every_common_field() -> None:
    text = FILES.read_text(encoding="utf-8")
    for name in {*BenchFile.model_fields, *Protocol.model_fields} - {"station", "format"}:
        assert f"`{name}`" in text or f"`{name}." in text, name
