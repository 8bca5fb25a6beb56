"""Exit codes of the program. They stand apart from whatever runs something, so that a stop in a hurry loads no more than this."""

from hil.core.errors import CapabilityError, ConfigError, HilError, SafetyError
from hil.core.outcome import Outcome

BAD_INPUT, INSTRUMENT_FAULT, SAFETY_REFUSAL, STOPPED = 2, 3, 4, 5
EXIT_CODES = {Outcome.CONVERGED: 0, Outcome.DONE: 0, Outcome.NOT_CONVERGED: 1, Outcome.STOPPED: STOPPED}


def exit_code_of(error: HilError) -> int:
    """Exit code of the program for an error that ended it."""
    if isinstance(error, SafetyError):
        return SAFETY_REFUSAL
    if isinstance(error, ConfigError | CapabilityError):
        return BAD_INPUT
    return INSTRUMENT_FAULT
