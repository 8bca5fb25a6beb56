"""Bad input: one clear sentence with file, field and remedy, the right exit code, no traceback, nothing applied."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from hil.cli import app

DRIVER = "bench.station.instruments.smu.type"


def hil(data: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["run", "voltage_divider", "--json", "--data", str(data), *arguments])


def check(done: Result, code: int, *said: str) -> None:
    assert done.exit_code == code, done.output
    assert not isinstance(done.exception, Exception) or isinstance(done.exception, SystemExit)
    assert len(done.stderr.splitlines()) == 1
    for part in said:
        assert part in done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["outcome"] == "failed"
    assert summary["relaxations"] == 0
    assert summary["results"]["reason"]


@pytest.mark.parametrize(
    ("name", "setting", "code", "said"),
    [
        ("unknown key", "stop.max_stps=5", 2, ("stop.max_stps", "did you mean 'max_steps'?")),
        ("unknown key in the bench", "bench.controls.V1.limit=[0 V, 1 V]", 2, ("controls.V1.limit", "did you mean 'limits'?")),
        ("wrong unit", "apply.V1=5 A", 2, ("apply.V1", "a quantity in V is needed")),
        ("wrong unit in the bench", "bench.controls.V1.limits=[0 A, 5 A]", 2, ("controls.V1.limits", "a quantity in V")),
        ("no unit", "apply.V1=5", 2, ("apply.V1", "write for example '5 V'")),
        ("value outside limits", "apply.V1=6 V", 4, ("'V1'", "6 V", "0 … 5 V", "nothing was applied")),
        ("weight outside limits", "weight_sets.pressure.start=2 bar", 2, ("weight_sets.pressure.start", "90000 … 110000 Pa")),
        ("nan", "apply.V1=.nan", 2, ("apply.V1", "not a finite number")),
        ("nan as text", "apply.V1=nan V", 2, ("apply.V1", "not a finite number")),
        ("nan in the bench", "bench.twin.law.parameters={length: nan m}", 2, ("twin.law.parameters.length", "not a finite")),
        ("missing node", "bench.twin.edges.a.tip=9", 2, ("twin.edges.a.tip", "there is no node '9'")),
        ("missing node of a control", "bench.controls.V1.node=9", 2, ("controls.V1.node", "there is no node '9'")),
        (
            "two grounds",
            "bench.twin.nodes={'1': {ground: true}, '2': {}, '3': {ground: true}}",
            2,
            ("twin.nodes.3.ground", "'1' and '3' are both ground"),
        ),
        ("disconnected node", "bench.twin.nodes.4={}", 2, ("twin.nodes.4", "no edge reaches node '4'")),
        ("no such weights", "weights=lenght", 2, ("weights", "length")),
        ("unknown output", "targets={V9: 4 V}", 2, ("targets.V9", "there is no output 'V9'")),
        ("class outside the allow-list", f"{DRIVER}=subprocess.Popen", 2, ("'subprocess.Popen' is not on the list of drivers",)),
        ("class that runs code", f"{DRIVER}=os.system", 2, ("'os.system' is not on the list",)),
        (
            "two instruments, one address",
            "bench.station.instruments.smu.address=TCPIP0::192.0.2.12::5025::SOCKET",
            2,
            ("same address",),
        ),
        ("unknown law", "bench.twin.law.name=conical", 2, ("twin.law", "conical_channel")),
        ("negative length", "bench.twin.law.parameters={length: -1 um}", 2, ("length", "outside")),
        ("decimal comma", "apply.V1='0,5 V'", 2, ("apply.V1", "decimal point")),
        ("unit of the targets", "targets={V2: 4 A}", 2, ("weight_sets.pressure.learning_rate", "because the targets are in A")),
        ("step below 0", "weight_sets.pressure.step=-1 mbar", 2, ("weight_sets.pressure.step", "'-1 mbar' must be above 0")),
        ("limits the wrong way round", "limits={V1: {limits: [4 V, 2 V]}}", 2, ("limits.V1.limits", "below the second")),
        ("wider limits", "limits={V1: {limits: [0 V, 9 V]}}", 2, ("limits.V1.limits", "[0 V, 9 V]", "only be tightened")),
        ("limits of nothing", "limits={V8: {limits: [0 V, 2 V]}}", 2, ("--set limits", "limits.V8", "no control 'V8'")),
        ("wider difference", "edge_limits={z: {voltage: 1 V}}", 2, ("--set edge_limits", "no edge 'z'")),
        ("another format", "format=hil-protocol/9", 2, ("`format: hil-protocol/1` is needed", "'hil-protocol/9'")),
        ("no such bench", "bench=nowhere.yaml", 2, ("bench", "nowhere.yaml")),
    ],
    ids=lambda value: value.replace(" ", "_") if isinstance(value, str) and "=" not in value else "",
)
def test_refused(tmp_path: Path, name: str, setting: str, code: int, said: tuple[str, ...]) -> None:
    check(hil(tmp_path, "--set", setting), code, *said)


def test_unwritable_data_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    check(hil(tmp_path / "file" / "data"), 2, "the run cannot be recorded", "--data DIR")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file is empty"),
        (b"# nothing\n", "the file is empty"),
        (b"title:\n\tx: 1\n", "line 2: not valid YAML: there is a tab; indent with spaces"),
        ("title: \N{LATIN SMALL LETTER A WITH DIAERESIS}\n".encode("utf-16"), "save it as UTF-8"),
        (b"title: nobody says what this is\n", "line 1: format: `format: hil-bench/1` is needed, and it is missing"),
        (b"format: hil-protocol/1\nprocedure: iv_curve\n", "this file says 'hil-protocol/1'"),
    ],
)
def test_a_file_that_is_no_bench_file(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "lab.yaml").write_bytes(content)
    check(hil(tmp_path, "--bench", str(tmp_path / "lab.yaml")), 2, "lab.yaml", said)


def test_a_bench_file_is_no_protocol(tmp_path: Path) -> None:
    bench = Path(__file__).parents[2] / "protocols" / "benches" / "divider.yaml"
    done = CliRunner().invoke(app, ["run", str(bench), "--json", "--data", str(tmp_path)])
    check(done, 2, "divider.yaml, line 3: format: this is a bench file")


def test_files_from_another_editor_are_read(tmp_path: Path) -> None:
    bench = Path(__file__).parents[2] / "protocols" / "benches" / "divider.yaml"
    windows = b"\xef\xbb\xbf" + bench.read_bytes().replace(b"\n", b"\r\n")
    (tmp_path / "lab.yaml").write_bytes(windows)
    done = hil(tmp_path, "--bench", str(tmp_path / "lab.yaml"), "--set", "stop.max_steps=1")
    assert done.exit_code == 1, done.output


def test_a_protocol_that_is_not_there(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["run", "voltage_dividr", "--json", "--data", str(tmp_path)])
    check(done, 2, "did you mean 'voltage_divider'?")


def test_no_file_can_run_code(tmp_path: Path) -> None:
    target = tmp_path / "touched"
    protocol = tmp_path / "evil.yaml"
    protocol.write_text(f"format: !!python/object/apply:pathlib.Path.touch [{target}]\n")
    done = CliRunner().invoke(app, ["run", str(protocol), "--json", "--data", str(tmp_path)])
    check(done, 2, "line 1", "tag")
    assert not target.exists()


@pytest.mark.parametrize("bad", ["weights=length", "weights=radius_ratio", "weights=concentration"])
def test_weights_a_bench_cannot_train_are_refused_and_the_others_named(tmp_path: Path, bad: str) -> None:
    check(hil(tmp_path, "--on", "virtual", "--set", bad), 2, "weights this bench can train: pressure", "Nothing was applied")


def test_a_closed_port_is_an_instrument_fault(tmp_path: Path, unused_port: int) -> None:
    addresses = [
        item
        for name in ("smu", "meter", "pace1", "pace2")
        for item in ("--set", f"bench.station.instruments.{name}.address=TCPIP0::127.0.0.{hash_of(name)}::{unused_port}::SOCKET")
    ]
    check(
        hil(tmp_path, "--on", "bench", *addresses), 3, "instrument 'smu' at TCPIP0::127.0.0.2", "check power, cable and address"
    )


def test_another_instrument_on_the_port_is_an_instrument_fault(tmp_path: Path) -> None:
    from hil.bench_station import start_virtual
    from hil.experiment.bench_file import BenchFile
    from hil.experiment.loader import read

    bench = read(Path(__file__).parents[2] / "protocols" / "benches" / "divider.yaml").model(BenchFile)
    virtual = start_virtual(bench, real_time=True)
    try:
        untouched = levels(virtual.side_door.sources())
        crossed = {**virtual.addresses, "smu": virtual.addresses["meter"], "meter": virtual.addresses["smu"]}
        settings = [
            item for name, address in crossed.items() for item in ("--set", f"bench.station.instruments.{name}.address={address}")
        ]
        check(hil(tmp_path, "--on", "bench", *settings), 3, "instrument 'smu'", "answers as", "check the address and the type")
        assert levels(virtual.side_door.sources()) == untouched
    finally:
        virtual.stop()


def levels(sources: dict[str, dict[str, dict[str, Any]]]) -> dict[tuple[str, str], tuple[Any, Any]]:
    """What every terminal does, by instrument and port."""
    return {
        (name, port): (terminal["source"], terminal["level"])
        for name, ports in sources.items()
        for port, terminal in ports.items()
    }


def hash_of(name: str) -> int:
    """A loopback address of its own for each instrument: one address twice would be refused before any connection."""
    return {"smu": 2, "meter": 3, "pace1": 4, "pace2": 5}[name]


@pytest.fixture
def unused_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@pytest.mark.parametrize(
    ("hold", "said"),
    [("-1 s", "give 0 s or more"), ("8", "'8' has no unit, but a quantity in s is needed"), ("5 V", "a quantity in s is needed")],
)
def test_a_hold_that_is_no_time(tmp_path: Path, hold: str, said: str) -> None:
    done = CliRunner().invoke(app, ["run", "voltage_divider", "--data", str(tmp_path), "--hold", hold])
    assert done.exit_code == 2
    assert done.stderr.startswith(f"hil: --hold {hold}: ")
    assert said in done.stderr
    assert not list(tmp_path.iterdir())
