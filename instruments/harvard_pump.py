"""Harvard Apparatus Pump 11 Elite and PHD Ultra syringe pumps, serial or USB.

Source: the pumps' manuals, pump-chain commands. A command ends in CR; the reply is a line feed, lines that end in CR LF,
and a prompt without any end: ``:`` idle, ``>`` infusing, ``<`` withdrawing, ``*`` stalled, ``T*`` target reached. Address 0.

With polling mode off, as delivered, a prompt also comes unasked when something happens, a target that is reached for example; one
would be taken for the reply to the next command. With it on none does, and every prompt is followed by XON, which may be missing
where the serial line keeps it for itself (``poll``: publication 5419-013, page 44). So it is switched on before anything is set.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from qcodes.parameters import Parameter
from qcodes.validators import Numbers

from hil.core.types import SafeAction
from instruments.fluid_roles import PumpState, Syringe
from instruments.safe_commands import SafeCommands
from instruments.syringe_pump import SyringePump
from instruments.visa import Link, Resource
from instruments.wiring import Setting

VOLUME_UNITS = {"pl": 1e-15, "nl": 1e-12, "ul": 1e-9, "ml": 1e-6, "l": 1e-3}
TIME_UNITS = {"s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "hr": 3600.0}
LONGEST_REPLY = 1024
_PROMPT = re.compile(r"(?:^|\n)(T\*|[:><*])$")
_AMOUNT = re.compile(r"^(\d*\.?\d+(?:[eE][-+]?\d+)?)\s*([a-z]+)(?:/([a-z]+))?$")
MOVING = (">", "<")
XON = "\x11"


def read_reply(resource: Resource) -> str:
    """One reply with its prompt, in either polling mode; ValueError for one that does not end."""
    text = ""
    for _ in range(LONGEST_REPLY):
        # The XON of polling mode comes after the prompt: it is met before the next reply.
        text += resource.read_bytes(1).decode("latin-1").replace(XON, "")
        if text[-1:] and text[-1] in ":><*" and _PROMPT.search(text) and "\n" in text:
            return text
    raise ValueError(f"no prompt came in {LONGEST_REPLY} characters")


def _parted(text: str) -> tuple[list[str], str]:
    """Lines and prompt of one reply; ValueError where it has none."""
    found = _PROMPT.search(text)
    if found is None:
        raise ValueError(f"{text[:40]!r}")
    return [line.strip() for line in text[: found.start()].splitlines() if line.strip()], found.group(1)


class HarvardPump(SyringePump):
    """What the models share: one syringe, address 0. Manual: see the models. ``baud_rate`` as set up at the pump."""

    def __init__(self, name: str, address: str | None = None, **options: Any) -> None:
        super().__init__(name, address, **options)
        self._side = "i"
        self.diameter: Parameter[float, Any] = self.add_parameter(
            "diameter",
            label="Inner diameter of the syringe",
            unit="m",
            vals=Numbers(1e-4, 6e-2),
            get_cmd=self._diameter,
            set_cmd=self._set_diameter,
        )

    def get_idn(self) -> dict[str, str | None]:
        """From the verified identity; sends nothing."""
        model, _, firmware = self.identity().rpartition(" ")
        return {"vendor": "Harvard Apparatus", "model": model, "serial": "not told", "firmware": firmware}

    def ask_pump(self, command: str, doing: str, *, repeat: bool = True, anyway: bool = False) -> tuple[list[str], str]:
        """The lines of the reply, and the prompt. InstrumentError where none comes."""

        return self.inquire(command, _parted, doing, repeat=repeat, anyway=anyway)

    def command(self, command: str, doing: str) -> list[str]:
        """One command that has to be obeyed; its lines. InstrumentError in the pump's own words."""
        lines, _ = self.ask_pump(command, doing)
        if any("error" in line.lower() for line in lines):
            raise self.fault(f"refused {command!r} while {doing}: {' '.join(lines)}")
        return lines

    def _told(self, command: str, doing: str) -> str:
        """The first line of what ``command`` asks for; a prompt alone is no answer to it."""

        def decode(text: str) -> str:
            lines, _ = _parted(text)
            if not lines:
                raise ValueError(f"{text[:40]!r}")
            return lines[0]

        return self.inquire(command, decode, doing)

    def errors(self) -> list[str]:
        """The pump keeps no errors but one: that it has stalled."""
        _, prompt = self.ask_pump("status", "asking whether it has stalled", anyway=True)
        return ["the pump has stalled (the line is blocked, or the plunger is at its end)"] if prompt == "*" else []

    def require_settings_kept(self) -> None:
        """A pump that should move or has counted something has not forgotten it."""
        if self._under_way:
            lines, prompt = self.ask_pump(f"{self._side}volume", "asking whether it still runs", anyway=True)
            if prompt not in (*MOVING, "T*") and not re.search(r"[1-9]", "".join(lines)):
                raise self.restarted()

    def configure_pump(self, syringe: Syringe) -> Sequence[str]:
        """Diameter and volume, read back; a pump found running is stopped."""
        self._prompt_when_asked()
        _, prompt = self.ask_pump("status", "looking whether it runs")
        warnings = [f"{self.name} was found running; it was stopped first"] if prompt in MOVING else []
        self.stop()
        self._set_diameter(syringe.diameter)
        self.command(f"svolume {syringe.volume * 1e6:.4f} ml", "setting the syringe's volume")
        self._keep_syringe(syringe)
        return warnings

    def start(self, rate: float, volume: float | None = None) -> None:
        """See ``fluid_roles.Pump``. ConfigError for a rate this pump cannot do with its syringe."""
        self._require_rate(rate)
        self.stop()
        side = "i" if rate > 0.0 else "w"
        for word in ("civolume", "cwvolume", "ctvolume"):
            self.command(word, "clearing counters and target")
        wanted = f"{_said(60.0 * abs(rate))}/min"
        self.command(f"{side}rate {wanted}", "setting the rate")
        kept = self._told(f"{side}rate", "reading the rate back")
        # Its units are whichever it likes.
        if not abs(_understood(kept) - abs(rate)) <= 1e-3 * abs(rate):
            raise self.fault(f"keeps the rate {kept} although {wanted} was sent")
        if volume:
            self.command(f"tvolume {_said(volume)}", "setting the volume")
        self._side = side
        reply = self._begun(lambda: self.ask_pump(f"{side}run", "starting", repeat=False))
        if reply is not None and reply[1] not in MOVING:
            raise self.fault(f"did not start: {' '.join(reply[0]) or f'its prompt is {reply[1]}'}")
        self._under_way = True
        self.note(rate_m3_per_s=rate, volume_m3=volume or 0.0)

    def stop(self) -> None:
        """Stop; verified by the prompt."""
        self._under_way = False
        _, prompt = self.ask_pump("stp", "stopping", anyway=True)
        if prompt in MOVING:
            raise self.fault("does not stop; switch it off")

    def pump_state(self) -> PumpState:
        """Counter and prompt; InstrumentError if it has stalled or forgotten that it was started."""
        lines, prompt = self.ask_pump(f"{self._side}volume", "reading the volume")
        counted = _understood(lines[0]) if lines else float("nan")
        if not counted >= 0.0:
            raise self.fault(f"tells its volume as {' '.join(lines)[:40]!r}, which is not understood")
        if prompt == "*":
            self._under_way = False
            raise self.fault("has stalled (the line is blocked, or the plunger is at its end)")
        if prompt == ":" and self._under_way:
            self._under_way = False
            raise self.fault("has stopped although nobody told it to: was it switched off and on, or stopped by hand?")
        return PumpState(prompt in MOVING, counted if self._side == "i" else -counted)

    def _prompt_when_asked(self) -> None:
        """Polling mode on, read back: until then a prompt may have come unasked. And nothing is kept in memory that wears out."""
        self.command("poll on", "switching polling mode on")
        kept = self._told("poll", "asking for its polling mode")
        if kept.rstrip(".").lower() != "on":  # its words of state may end with a full stop
            raise self.fault(f"keeps its polling mode {kept!r} although 'on' was sent; set it to on or off at the pump")
        for word in ("none", "off"):  # older firmware knows `off` only: no rates
            lines, _ = self.ask_pump(f"nvram {word}", "sparing its memory")
            if not any("error" in line.lower() for line in lines):
                break

    def _diameter(self) -> float:
        told = self._told("diameter", "reading the diameter")
        found = re.match(r"^(\d*\.?\d+) mm$", told)
        if found is None:
            raise self.fault(f"tells its diameter as {told[:40]!r}, which is not understood")
        return 1e-3 * float(found.group(1))

    def _set_diameter(self, metres: float) -> None:
        self.command(f"diameter {1e3 * metres:.4f}", "setting the diameter")
        kept = self._diameter()
        if abs(kept - metres) > 1e-3 * metres:
            raise self.fault(f"keeps the diameter {kept:g} m although {metres:g} m was sent")

    @classmethod
    def safe_commands(cls, port: str, action: SafeAction, value: float, settings: Mapping[str, Setting]) -> SafeCommands | None:
        """Stop; the raw status tells with a small letter that nothing moves, in five flags or six."""
        idle = r"\d+ \d+ \d+ [iw][.iIwW][.S][.T][.iIwW][.T]?\s*$"
        return SafeCommands(leave=("stp",), query="status", expected=idle)


def _said(amount: float) -> str:
    """A volume (m^3) in a unit that needs no exponent, which the pump does not take."""
    unit = next(unit for unit in ("ul", "nl", "pl") if amount >= 0.01 * VOLUME_UNITS[unit] or unit == "pl")
    return f"{amount / VOLUME_UNITS[unit]:.6g} {unit}"


def _understood(text: str) -> float:
    """A volume, or a volume per time, in SI; NaN for anything else."""
    found = _AMOUNT.match(text.lower())
    if found is None or found.group(2) not in VOLUME_UNITS or (found.group(3) or "s") not in TIME_UNITS:
        return float("nan")
    return float(found.group(1)) * VOLUME_UNITS[found.group(2)] / TIME_UNITS[found.group(3) or "s"]


def _link(identity: str) -> Link:
    return Link(
        identity=identity,
        identify="ver",
        read_termination="\n",
        write_termination="\r",
        timeout=1.0,
        first_timeout=1.0,
        baud_rate=115200,
        reader=read_reply,
    )


class HarvardPump11Elite(HarvardPump):
    """Pump 11 Elite. Manual: publication 5420-002."""

    link = _link(r"(?i)^\s*(11 ?ELITE.*?)\s*\n")
    slowest, fastest = 0.15e-6 / 60.0, 159e-3 / 60.0
    concrete = True


class HarvardPHDUltra(HarvardPump):
    """PHD Ultra. Manual: publication 5419-002."""

    link = _link(r"(?i)^\s*(PHD ?ULTRA.*?)\s*\n")
    slowest, fastest = 0.18e-6 / 60.0, 190.8e-3 / 60.0
    concrete = True


__all__ = ["HarvardPHDUltra", "HarvardPump11Elite"]
