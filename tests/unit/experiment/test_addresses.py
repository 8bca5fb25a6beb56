from pathlib import Path

import pytest

from hil.experiment.addresses import canonical, may_be_address


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("TCPIP::192.0.2.1::5025::SOCKET", " tcpip0::192.0.2.1::5025::socket"),
        ("TCPIP0::Smu.lab::INSTR", "TCPIP::smu.lab::inst0"),
        ("GPIB::24", "GPIB0::24::INSTR"),
        ("ASRL3", "asrl3::instr"),
        ("COM3", "ASRL3::INSTR"),
        ("asrlcom3::INSTR", "ASRL3::INSTR"),
        ("USB::0x05e6::0x2450::04::INSTR", "USB0::0x05E6::0x2450::04::0::INSTR"),
        ("PRLGX-TCPIP::192.0.2.1::1234::GPIB::5", "prlgx-tcpip0::192.0.2.1::1234::gpib::5"),
    ],
)
def test_one_instrument_has_one_name(one: str, other: str) -> None:
    assert canonical(one) == canonical(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("TCPIP0::192.0.2.1::5025::SOCKET", "TCPIP1::192.0.2.1::5025::SOCKET"),
        ("TCPIP0::192.0.2.1::5025::SOCKET", "TCPIP0::192.0.2.1::5026::SOCKET"),
        ("GPIB0::24::INSTR", "GPIB0::25::INSTR"),
        ("ASRL/dev/ttyusb0::INSTR", "ASRL/dev/ttyUSB0::INSTR"),
        ("something", "else"),
    ],
)
def test_two_instruments_have_two(one: str, other: str) -> None:
    assert canonical(one) != canonical(other)


def test_a_link_to_a_serial_device_is_that_device(tmp_path: Path) -> None:
    device, link = tmp_path / "ttyS7", tmp_path / "pump"
    device.touch()
    try:
        link.symlink_to(device)
    except OSError:
        pytest.skip("this system lets nobody make a link")
    assert canonical(f"ASRL{link}::INSTR") == canonical(f"ASRL{device}")


@pytest.mark.parametrize(
    "text",
    ["TCPIP0::192.0.2.1::5025::SOCKET", "ASRL/dev/ttyUSB0", "ASRL3", "COM3", "smu_left", "SMU-2", "rack.meter", " GPIB0::5 "],
)
def test_addresses_serial_ports_and_aliases_may_be_read(text: str) -> None:
    assert may_be_address(text)


@pytest.mark.parametrize(
    "text", ["", " ", "192.0.2.1", "192.0.2.1:5025", "smu.lab:5025", "my smu", "/dev/ttyUSB0", r"\\.\COM12", "5025", "fe80:1"]
)
def test_what_people_write_for_a_network_or_a_device_may_not(text: str) -> None:
    assert not may_be_address(text)
