"""Documents about instruments, where they say something that can be looked up."""

import re
from pathlib import Path

import pytest

from instruments import station
from instruments.vendor_pressure import VendorPressure

ROOT = Path(__file__).resolve().parents[3]
PAGES = ROOT / "docs" / "instruments"


SECTIONS = ("Wiring", "Settings", "Limits", "Emulator", "How it was checked")


def rows(page: str) -> list[list[str]]:
    """Cells of the tables of a page, without heads."""
    lines = [line for line in (PAGES / page).read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@pytest.mark.parametrize("driver", station.own_drivers(), ids=lambda driver: driver.__name__)
def test_every_driver_has_a_page_that_says_what_a_lab_has_to_know(driver: type) -> None:
    heads = {path: path.read_text(encoding="utf-8").split("\n\n")[1] for path in PAGES.glob("*.md")}
    (page,) = [path for path, head in heads.items() if head.startswith("Driver") and f"{driver.__name__}`" in head]
    text = page.read_text(encoding="utf-8")
    wanted = ("Limits and safety", "How it was checked") if issubclass(driver, VendorPressure) else SECTIONS
    for section in wanted:
        assert f"**{section}.**" in text, f"{page.name} has no paragraph {section!r}"


def electrical() -> list[str]:
    """Pages of instruments that drive or read volts, and of matrices."""
    texts = {path.name: path.read_text(encoding="utf-8") for path in PAGES.glob("*.md")}
    return sorted(name for name, text in texts.items() if re.search(r"^Driver", text, re.M) and re.search(r"\.volt\b", text))


def test_there_are_pages_of_electrical_instruments() -> None:
    assert {"keithley_2600.md", "keithley_707b.md", "keysight_34970a.md"} <= set(electrical())


@pytest.mark.parametrize("page", electrical())
def test_pages_of_electrical_instruments_say_how_to_wire_them(page: str) -> None:
    text = (PAGES / page).read_text(encoding="utf-8")
    wiring = text.split("**Wiring.**")[1].split("\n\n")[0]
    for word in ("LO|L of every channel", r"common\s+point", r"wiring\.md"):
        assert re.search(rf"\b{word}\b", wiring, re.I), f"the wiring paragraph of {page} does not say {word!r}"
    assert re.search(r"triaxial|shielded", wiring)


def test_every_emulated_driver_has_its_line_among_the_clients_of_others() -> None:
    listed = [name for cells in rows("clients.md") for name in re.findall(r"\w+", cells[0])]
    emulated = [driver.__name__ for driver in station.own_drivers() if not issubclass(driver, VendorPressure)]
    assert sorted(listed) == sorted(emulated)


def test_the_tests_with_clients_of_others_are_there() -> None:
    found = {path.name: path for path in (ROOT / "tests").rglob("test_*.py")}
    for emulated, client, tests in rows("clients.md"):
        texts = [found[name].read_text(encoding="utf-8") for name in re.findall(r"test_\w+\.py", tests)]
        assert texts, emulated
        for name in re.findall(r"`(Keithley\w+|Keysight\w+)`", client):
            assert any(name in text for text in texts), f"{name} drives nothing in {tests}"


@pytest.mark.parametrize("cells", rows("recipe.md"), ids=lambda cells: cells[0])
def test_the_recipe_tells_what_it_takes(cells: list[str]) -> None:
    _, module, driver, emulator, test = cells
    name = module.strip("`")
    files = (
        f"instruments/{name}.py",
        f"simulated_backend/virtual_bench/emulators/{name}.py",
        f"tests/unit/instruments/test_{name}.py",
    )
    for told, file in zip((driver, emulator, test), files, strict=True):
        lines = len((ROOT / file).read_text(encoding="utf-8").splitlines())
        assert int(told) == pytest.approx(lines, rel=0.2), f"{file} has {lines} lines, recipe.md says {told}"
