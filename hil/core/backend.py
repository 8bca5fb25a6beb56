"""The one interface to a memristor network, real or simulated.

Public verbs are final and carry the rules (checked before the first write, safe after any failure); subclasses
fill in the verbs with a leading underscore and cannot avoid the rules.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self, TypeVar, final

import numpy as np

from hil.core.clock import Clock, SteppedClock
from hil.core.dwell import DwellWatch, WatchedClock
from hil.core.errors import BackendClosedError, BackendError, CapabilityError, ConfigError, NotSafeError, NotSettledError
from hil.core.recollection import Recollection, Row
from hil.core.safety import SafetyEnvelope, uninterrupted
from hil.core.types import (
    BoolArray,
    Capabilities,
    FloatArray,
    Reading,
    Readings,
    SettlePolicy,
    SettleReport,
    Stimulus,
    Trace,
    Waveform,
)
from hil.core.waveforms import as_readings, check_jumps, check_shape, levels_at, rest_of

T = TypeVar("T")
Observer = Callable[[Sequence[Stimulus], Readings], None]


class Backend(ABC):
    """Apply stimuli, let the network settle, read its outputs. See the design notes for the contract.

    ``observers`` are called with every block of readings the moment it exists (the recorder is one of them), and never with one
    that is not verified; several replicas read at one moment are as many rows that ``Readings.replica`` tells apart.
    ``trace_observers`` are called in the same way with the samples of every waveform that was played.
    ``recollection``: answers from before an interruption, which are given again instead of being measured.
    ``relaxations`` counts the stimuli for which the network was left to settle since construction.
    """

    def __init__(self, name: str, capabilities: Capabilities, envelope: SafetyEnvelope, clock: Clock | None = None) -> None:
        if envelope.layout.names != capabilities.controls.names:
            raise ConfigError("the envelope must list the same controls, in the same order, as the capabilities")
        if clock is None and envelope.max_dwell is not None and np.isfinite(envelope.max_dwell).any():
            raise ConfigError(f"backend {name!r} has no clock, so it cannot keep the dwell limits of the bench file")
        self.name = name
        self.capabilities = capabilities
        self._envelope = envelope
        self._dwell = DwellWatch(envelope, (raw := clock or SteppedClock()).now, capabilities.replicas)
        self._clock: Clock = WatchedClock(raw, self._dwell)
        self.observers: list[Observer] = []
        self.trace_observers: list[Observer] = []
        self.recollection: Recollection | None = None
        self.relaxations = 0
        self._is_open = False
        self._applied: Stimulus | None = None

    @final
    @property
    def envelope(self) -> SafetyEnvelope:
        """What every write is checked against; fixed when the backend is made."""
        return self._envelope

    # -- life cycle ---------------------------------------------------------------------------------------------

    @final
    def open(self) -> None:
        """Connect; outputs are not touched. Opening an open backend does nothing."""
        if not self._is_open:
            self._open()
            self._is_open = True

    @final
    def close(self) -> None:
        """Reach the safe state, then disconnect. Closing twice is fine."""
        if self._is_open:
            try:
                self._go_home()
            finally:
                self._is_open = False
                self._applied = None
                self._close()

    @final
    def __enter__(self) -> Self:
        self.open()
        return self

    @final
    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @final
    def make_safe(self) -> None:
        """Bring every control to its declared safe state, as fast as its emergency slew allows."""
        self._require_open()
        self._applied = None
        self._go_home()

    # -- the loop -----------------------------------------------------------------------------------------------

    @final
    def apply(self, stimulus: Stimulus) -> None:
        """Set every control; all are checked before the first write. A failed write leads to the safe state.

        Raises LimitExceededError (nothing was written), BackendClosedError, InstrumentError.
        """
        self._require_present()
        self._check([stimulus])
        self._guarded(lambda: self._drive(stimulus))
        self._applied = stimulus

    @final
    def settle(self, policy: SettlePolicy) -> SettleReport:
        """Wait until sources are in limits, dead times have passed and outputs are flat; a time-out is reported, not raised."""
        self._require_applied()
        self.relaxations += 1
        return self._guarded(lambda: self._settled(policy))

    @final
    def read(self, samples: int = 1) -> Reading:
        """Mean of ``samples`` readings of every output, with the standard error of that mean."""
        stimulus = self._require_applied()
        _require_samples(samples)
        return self._guarded(lambda: self._recorded(stimulus, samples))

    @final
    def wait(self, seconds: float) -> None:
        """Leave what is applied for ``seconds``; LimitExceededError, then safe, where a channel would be away for too long."""
        self._require_applied()
        self._guarded(lambda: self._clock.sleep(seconds))

    @final
    def measure(self, stimuli: Sequence[Stimulus], policy: SettlePolicy, samples: int = 1) -> Readings:
        """Apply, settle and read each stimulus in order; all are checked before the first is applied.

        Raises NotSettledError naming the stimulus where the outputs were not steady in time.
        """
        self._require_open()
        _require_samples(samples)
        if not stimuli:
            raise ConfigError("measure needs at least one stimulus")
        self._check(stimuli)
        known = self._recalled([(stimulus,) for stimulus in stimuli], policy, samples)
        left = stimuli if known is None else stimuli[len(known) :]
        parts = [] if known is None else [known]
        if left:
            self._dwell.mark()
            parts.append(self._guarded(lambda: self._measure(left, policy, samples)))
            self._applied = stimuli[-1]
        return parts[0] if len(parts) == 1 else Readings.joined(parts)

    @final
    def measure_replicas(self, stimuli: Sequence[Sequence[Stimulus]], policy: SettlePolicy, samples: int = 1) -> FloatArray:
        """Drive every replica with a stimulus of its own and read all at the same moment.

        stimuli: n rows of n_replicas stimuli. Returns (n, n_replicas, n_outputs), means over ``samples``.
        """
        self._require_open()
        _require_samples(samples)
        replicas = len(self.capabilities.replicas)
        if not replicas:
            raise CapabilityError(f"backend {self.name!r} has no replicas; declare `replicas` in the bench file")
        for row in stimuli:
            if len(row) != replicas:
                raise ConfigError(
                    f"each row needs {replicas} stimuli, one for each of {self.capabilities.replicas}, not {len(row)}"
                )
            self._check(row)
        known = self._recalled(stimuli, policy, samples)
        before = (np.empty(0) if known is None else known.values).reshape(-1, replicas, len(self.capabilities.outputs))
        left = stimuli[len(before) :]
        if not left:
            return before
        self._dwell.mark()
        return np.concatenate([before, self._guarded(lambda: self._measure_replicas(left, policy, samples))])

    @final
    def play(self, waveform: Waveform, sample_times: FloatArray) -> Trace:
        """Run a piecewise-constant waveform and sample the outputs at ``sample_times`` (s from its start).

        A sample at the border of two segments belongs to the first. Channels that the waveform moves are at their safe value
        before and after it; the others are brought to their value first. Raises CapabilityError for a waveform the backend
        cannot play, LimitExceededError (nothing was written).
        """
        self._require_open()
        limits = self.capabilities.waveforms
        if limits is None:
            raise CapabilityError(f"backend {self.name!r} cannot play waveforms")
        check_shape(self.name, limits, waveform, sample_times, len(self.capabilities.controls))
        rest = rest_of(self.capabilities.controls, waveform)
        self._check([rest, *(Stimulus(v, c) for v, c in zip(waveform.values, waveform.connected, strict=True))])
        check_jumps(self.envelope, waveform)
        self._dwell.check_plan(waveform)
        levels = levels_at(waveform, sample_times)
        known = self._recalled([(level,) for level in levels], None, 1)
        if known is not None:
            return Trace(np.array(sample_times, dtype=np.float64), known.values, known.overload)
        trace = self._guarded(lambda: self._played(waveform, sample_times, levels))
        self._applied = rest
        self._dwell.arrived([rest])
        return trace

    # -- state --------------------------------------------------------------------------------------------------

    @final
    def capture_state(self) -> object:
        """Everything a bit-exact continuation needs (device state, noise generator, clock, warm start); JSON."""
        self._require_open()
        if not self.capabilities.can_capture:
            raise CapabilityError(f"backend {self.name!r} cannot capture its state")
        return self._capture()

    @final
    def restore_state(self, state: object) -> None:
        """Return to a captured state."""
        self._require_open()
        if not self.capabilities.can_capture:
            raise CapabilityError(f"backend {self.name!r} cannot restore a state")
        self._restore(state)
        if self._applied is not None:
            # A state from elsewhere may hold what this bench forbids.
            self._guarded(lambda: self._check([self._require_applied()]))

    @final
    def reset(self) -> None:
        """Put every device into its initial state."""
        self._require_present()
        if not self.capabilities.can_reset:
            raise CapabilityError(f"backend {self.name!r} cannot reset its devices")
        self._applied = None
        self._guarded(self._reset)

    @abstractmethod
    def snapshot(self) -> Mapping[str, object]:
        """JSON-able: everything needed to say what was measured with (ranges, integration times, law, seed)."""

    def usage(self) -> Mapping[str, object]:
        """JSON-able: what was used up since it was opened, by kind (liquids); empty where nothing is."""
        return {}

    # -- for subclasses -----------------------------------------------------------------------------------------

    @abstractmethod
    def _open(self) -> None: ...

    @abstractmethod
    def _close(self) -> None: ...

    @abstractmethod
    def _make_safe(self) -> None: ...

    @abstractmethod
    def _apply(self, stimulus: Stimulus) -> None: ...

    @abstractmethod
    def _settle(self, policy: SettlePolicy) -> SettleReport: ...

    @abstractmethod
    def _read(self, samples: int) -> Reading: ...

    def _measure(self, stimuli: Sequence[Stimulus], policy: SettlePolicy, samples: int) -> Readings:
        """One by one; override to vectorise or to use a list sweep (and then call ``_notify`` a block at a time)."""
        rows: list[Reading] = []
        for number, stimulus in enumerate(stimuli):
            self._drive(stimulus)
            self._applied = stimulus
            self.relaxations += 1
            report = self._settled(policy)
            if not report.settled:
                raise NotSettledError(f"stimulus {number + 1} of {len(stimuli)}: {report.trouble(policy)}")
            rows.append(self._recorded(stimulus, samples))
        return Readings.stack(rows)

    def _measure_replicas(self, stimuli: Sequence[Sequence[Stimulus]], policy: SettlePolicy, samples: int) -> FloatArray:
        raise CapabilityError(f"backend {self.name!r} declares replicas it cannot measure")

    def _play(self, waveform: Waveform, sample_times: FloatArray) -> Trace:
        raise CapabilityError(f"backend {self.name!r} declares waveforms it cannot play")

    def _capture(self) -> object:
        raise CapabilityError(f"backend {self.name!r} declares a state it cannot capture")

    def _restore(self, state: object) -> None:
        raise CapabilityError(f"backend {self.name!r} declares a state it cannot restore")

    def _reset(self) -> None:
        raise CapabilityError(f"backend {self.name!r} declares a reset it cannot do")

    def _apply_row(self, row: Row) -> None:
        """One stimulus each for the first replica and those after it; override where replicas are driven together."""
        self._apply(row[0])

    @final
    def _drive(self, *row: Stimulus) -> None:
        """Apply to the first replica and those after it: away counts from before the first write, at rest after the last."""
        self._dwell.begin(row)
        self._apply_row(row)
        self._dwell.arrived(row)

    @final
    def _played(self, waveform: Waveform, sample_times: FloatArray, levels: Sequence[Stimulus]) -> Trace:
        trace = self._play(waveform, sample_times)
        readings = as_readings(trace, self._clock.now() - waveform.end)
        for observer in self.trace_observers if levels else ():
            observer(levels, readings)
        return trace

    @final
    def _settled(self, policy: SettlePolicy) -> SettleReport:
        report = self._settle(self._dwell.within(policy))
        self._dwell.check()
        return report

    @final
    def _recorded(self, stimulus: Stimulus, samples: int) -> Reading:
        reading = self._read(samples)
        self._notify([stimulus], Readings.stack([reading]))
        return reading

    @final
    def _notify(self, stimuli: Sequence[Stimulus], readings: Readings) -> None:
        """Hand a block of verified readings on, then judge how long the channels have been away from their safe states."""
        for observer in self.observers:
            observer(stimuli, readings)
        self._dwell.judge(stimuli, readings)

    @final
    def _notify_rows(self, rows: Sequence[Row], values: FloatArray, std: FloatArray, over: BoolArray, time: FloatArray) -> None:
        """``_notify`` for rows of replicas: values, std, overload (n, n_replicas, n_outputs), time (n,)."""
        names = self.capabilities.replicas * len(rows)
        flat = len(names), -1
        each = np.repeat(time, len(self.capabilities.replicas))
        readings = Readings(values.reshape(flat), std.reshape(flat), over.reshape(flat), each, names)
        self._notify([stimulus for row in rows for stimulus in row], readings)

    @final
    def _recalled(self, rows: Sequence[Row], policy: SettlePolicy | None, samples: int) -> Readings | None:
        return None if self.recollection is None else self.recollection.recall(rows, policy, samples)

    @final
    def _require_present(self) -> None:
        self._require_open()
        if self.recollection is not None and self.recollection.active:
            raise BackendError(
                f"backend {self.name!r}: what was measured before the interruption can only be asked for in the same order again"
            )

    @final
    def _go_home(self) -> None:
        with self._dwell.homeward():
            self._make_safe()

    @final
    def _guarded(self, action: Callable[[], T]) -> T:
        """Run ``action``; whatever goes wrong in it, Ctrl-C included, ends in the safe state."""
        try:
            return action()
        except BaseException as error:
            self._applied = None
            try:
                uninterrupted(self._go_home)
            except Exception as second:  # noqa: BLE001 - whatever it is, the first error is the cause and must not be hidden
                raise NotSafeError(f"{error}; and then the safe state was not reached: {second}") from error
            raise

    @final
    def _check(self, stimuli: Sequence[Stimulus]) -> None:
        self.envelope.check_stimuli(stimuli)

    @final
    def _require_open(self) -> None:
        if not self._is_open:
            raise BackendClosedError(f"backend {self.name!r} is not open")

    @final
    def _require_applied(self) -> Stimulus:
        self._require_present()
        if self._applied is None:
            raise BackendError(f"backend {self.name!r}: apply a stimulus before settling or reading")
        return self._applied


def _require_samples(samples: int) -> None:
    if samples < 1:
        raise ConfigError(f"samples must be 1 or more, not {samples}")
