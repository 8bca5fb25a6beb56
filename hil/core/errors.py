"""Every error the program raises on purpose.

Each class also derives from the built-in a Python programmer would expect, so that code which knows
nothing of this project can still catch it sensibly.
"""


class HilError(Exception):
    """Base of all errors raised on purpose; its text is one sentence meant for the user."""

    def __str__(self) -> str:
        # QCoDeS adds what it was about ("getting smu_model") to the arguments of whatever a parameter raises.
        return "; while ".join(map(str, self.args))


class ConfigError(HilError, ValueError):
    """A file, an option or an argument is wrong; nothing was applied."""


class CapabilityError(HilError, TypeError):
    """The backend was asked for something it does not declare."""


class SafetyError(HilError):
    """Something would leave, or has left, what the bench file allows."""


class LimitExceededError(SafetyError):
    """A value, a slew, a difference across an edge, a power or a duration lies outside its limit."""


class InterlockError(SafetyError):
    """An interlock input does not permit sourcing."""


class BackendError(HilError):
    """The backend could not do what it was asked."""


class NotSafeError(BackendError):
    """After a failure the safe state was not reached everywhere; the text says what first went wrong, too."""


class BackendClosedError(BackendError):
    """A verb was called on a backend that is not open."""


class NotSettledError(BackendError, TimeoutError):
    """The outputs were not steady when the settling time ran out."""


class InstrumentError(BackendError, OSError):
    """An instrument did not answer, answered nonsense, or reported an error."""


class ImplausibleError(BackendError):
    """A reading that no network in order can give; it is on record and must not be learnt from."""


class NotConvergedError(BackendError, ArithmeticError):
    """A solver found no steady state, or several; the text says which and why."""


class RecordError(HilError, OSError):
    """The record of the run cannot be written."""
