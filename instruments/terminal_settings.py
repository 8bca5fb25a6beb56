"""One terminal has one meter: what its control and its outputs want of that, put together."""

from collections.abc import Mapping

from hil.core.errors import ConfigError
from instruments.wiring import Setting


class Wishes:
    """Settings of a terminal's meter, by who gave them. Nobody's turn is better than another's: two that differ are refused."""

    def __init__(self) -> None:
        self._given: dict[str, dict[str, Setting]] = {}

    def hear(self, who: str, wishes: Mapping[str, Setting], where: str) -> None:
        """What ``who`` wants, instead of what it wanted before; ConfigError where somebody else wants another value."""
        for other, before in self._given.items():
            for key, value in wishes.items():
                if other != who and before.get(key, value) != value:
                    raise ConfigError(
                        f"{where}: its {who} wants {key} {value}, its {other} {before[key]}, and there is only one for both; "
                        "give it once, or the same twice"
                    )
        self._given[who] = dict(wishes)

    def get(self, key: str, default: Setting) -> Setting:
        """The value that somebody gave, or ``default``."""
        return self.all().get(key, default)

    def all(self) -> dict[str, Setting]:
        """Every setting that somebody gave."""
        return {key: value for one in self._given.values() for key, value in one.items()}
