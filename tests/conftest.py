"""Options and paths shared by every test."""

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# The same examples everywhere and every time, however slow the machine; `--hypothesis-profile default` looks for new ones.
settings.register_profile(
    "same", derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("same")

# The contract class and the scripted instruments are imported by several test modules.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
pytest.register_assert_rewrite(
    "tests.backend_contract", "tests.unit.instruments.scripted", "tests.unit.instruments.fake_instruments"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--bench", metavar="FILE", default=None, help="run the hardware tests on the bench described in FILE")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--bench") is None:
        skip = pytest.mark.skip(reason="needs a real bench: pytest --bench FILE")
        for item in items:
            if item.get_closest_marker("hardware"):
                item.add_marker(skip)


@pytest.fixture(autouse=True)
def _as_if_alone() -> Iterator[None]:
    """Each test as if it were a program of its own.

    A test run started in the background inherits an ignored Ctrl-C; and pyvisa keeps one manager per library for the whole
    process, so that a test which closes its manager closes the one that the guard's code remembers.
    """
    if "instruments.guard_links" in sys.modules:
        sys.modules["instruments.guard_links"].visa_manager.cache_clear()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
