"""One spelling for a VISA address, so that one instrument is known as one however a file writes it."""

import os
import re

_SERIAL_DEVICE = re.compile(r"(?i)^ASRL(/[^:]+)(?:::INSTR)?$")
_WINDOWS_PORT = re.compile(r"(?i)^(?:ASRL)?COM([0-9]+)(?:::INSTR)?$")
_ADAPTER = re.compile(r"(?i)^PRLGX-TCPIP::")
_NO_ALIAS = re.compile(r"[\s:/\\]|^[0-9.]*$")


def may_be_address(text: str) -> bool:
    """Whether VISA may be able to read ``text``: an address, a serial port such as ``ASRL3`` or ``COM3``, or an alias of the lab.

    Not so what people write who mean a network or a serial address: ``host:port``, an IP address, a path.
    """
    text = text.strip()
    return "::" in text or bool(_SERIAL_DEVICE.match(text)) or not _NO_ALIAS.search(text)


def canonical(address: str) -> str:
    """``address`` with everything spelled out that VISA lets one leave away, in capitals; to compare, not to connect.

    ``TCPIP::host::5025::socket`` and ``TCPIP0::HOST::5025::SOCKET`` are one; so are a serial device and a link to it, or
    ``COM3`` and ``ASRL3``.
    What VISA cannot read is compared as it stands.
    """
    from pyvisa.rname import InvalidResourceName, to_canonical_name

    text = address.strip()
    device = _SERIAL_DEVICE.match(text)
    if device:
        return f"ASRL{os.path.realpath(device.group(1))}::INSTR"
    text = _WINDOWS_PORT.sub(r"ASRL\1::INSTR", _ADAPTER.sub("PRLGX-TCPIP0::", text.upper()))
    try:
        return to_canonical_name(text).upper()
    except (InvalidResourceName, ValueError):
        return text
