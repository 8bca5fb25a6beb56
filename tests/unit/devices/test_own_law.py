"""The guide's own law, taken from the guide, in a package of its own: found by entry point, nothing else touched."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
GUIDE = (ROOT / "docs" / "user" / "device-laws.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)


def install(folder: Path, target: str) -> None:
    """What pip leaves behind: the module and the metadata that names its entry point."""
    (folder / "my_devices.py").write_text(BLOCKS[0], encoding="utf-8")
    metadata = folder / "my_devices-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: my-devices\nVersion: 1.0\n", encoding="utf-8")
    (metadata / "entry_points.txt").write_text(f"[memristor_hil.devices]\nfilm = {target}\n", encoding="utf-8")


def python(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    environment = {"PYTHONPATH": f"{folder}:{ROOT}" if sys.platform != "win32" else f"{folder};{ROOT}", "PATH": "/usr/bin"}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, env=environment, timeout=120, check=False
    )


def test_the_guide_names_its_entry_point():
    assert 'film = "my_devices:Film"' in GUIDE
    assert len(BLOCKS) == 3


def test_a_law_in_a_package_of_its_own(tmp_path):
    install(tmp_path, "my_devices:Film")
    checks = """
from simulated_backend import netlist_run
from simulated_backend.description import describe, rebuild
from hil.core.errors import ConfigError
assert "film" in registry.names() and "team" in registry.names()
assert describe(rebuild(describe(network))) == describe(network)
v = float(point.voltage[1])
g = 3e-6 * (1 + 1.4 * (1 - v) ** 2 / ((1 - v) ** 2 + 0.25))
assert abs(g * (1 - v) - 2e-6 * v) < 1e-15, v
try:
    Network.build([Node("a"), Node("b")], [Edge("e", "a", "b", film, {"gain": -1.0})])
except ConfigError as error:
    assert "gain = -1" in str(error)
else:
    raise SystemExit("a negative gain was taken")
deck = netlist(network, np.array([1.0, 0.0, 0.0]), np.array([True, False, True]))
if netlist_run.find():
    assert abs(netlist_run.run(deck.text)["v(n1)"][0] / v - 1) < 1e-9
print("sound")
"""
    done = python(tmp_path, BLOCKS[1] + BLOCKS[2] + checks)
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("sound")


def test_without_the_package_there_is_no_such_law(tmp_path):
    done = python(tmp_path, BLOCKS[1])
    assert "there is no device law 'film'" in done.stderr


@pytest.mark.parametrize("target", ["my_devices:np"])
def test_an_entry_point_that_is_no_law_is_named(tmp_path, target):
    install(tmp_path, target)
    done = python(tmp_path, "from simulated_backend.devices import registry; registry.names()")
    assert "entry point 'film'" in done.stderr
    assert "no device law" in done.stderr
