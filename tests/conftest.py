"""Options and paths shared by every test."""

import sys
from pathlib import Path

import pytest

# The contract class and the scripted instruments are imported by several test modules.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
pytest.register_assert_rewrite("tests.backend_contract", "tests.unit.instruments.scripted")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--bench", metavar="FILE", default=None, help="run the hardware tests on the bench described in FILE")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--bench") is None:
        skip = pytest.mark.skip(reason="needs a real bench: pytest --bench FILE")
        for item in items:
            if item.get_closest_marker("hardware"):
                item.add_marker(skip)
