"""The backend that stands on instruments: one path from a stimulus to the wires, and every rule of the bench on it."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from hil.core.backend import Backend
from hil.core.clock import Clock
from hil.core.safety import SafetyEnvelope
from hil.core.types import (
    Capabilities,
    Determinism,
    FloatArray,
    Layout,
    Reading,
    Readings,
    SettlePolicy,
    SettleReport,
    Stimulus,
    Trace,
    Waveform,
)
from hil.core.waveforms import RAMP_PERIOD, rest_of
from instruments.bench_record import bench_record
from instruments.calibration import Aim, Corrections
from instruments.charge import Book, FlowMeters
from instruments.elevated import at_nodes
from instruments.guard_plan import guard_plan
from instruments.guard_process import Guard, NoGuard
from instruments.list_sweep import LONGEST_CHUNK, ListSweep, block_of, list_sweep, swept_values
from instruments.mixer import Mixer
from instruments.mixer_controls import guarded, usage, without_mixed
from instruments.mixer_spec import MixerSpec
from instruments.outputs import Interlocks, Switchboard
from instruments.ramp_order import groups_of
from instruments.ramper import Ramper
from instruments.replica_wiring import check_replicas, tied
from instruments.replicas import RowBench, measure_list, measure_rows
from instruments.safe_state import WayHome
from instruments.settling import Noise, require_settled, until_flat, until_in_limits
from instruments.station import build_station, check_station, close_station, with_watchdogs
from instruments.terminals import (
    Drive,
    Movers,
    Output,
    Read,
    Reader,
    Sense,
    at_sources,
    configure_meters,
    look_at,
    numbered,
    tie_control,
    tie_output,
)
from instruments.verification import Notices, Verification, forget
from instruments.waveforms import at_compliance, prepared, waveform_limits
from instruments.wiring import ControlWire, InstrumentSpec, InterlockWire, OutputWire

if TYPE_CHECKING:
    from qcodes.station import Station

STALE_AFTER = 5.0  # s; a level seen longer ago is looked at again before a ramp starts from it


class InstrumentBackend(Backend):
    """A bench of instruments. Connecting touches no output; a source is switched on when it is first applied.

    ``replicas``: name -> {control or output name -> parameter path} for identical devices; the plain verbs then use the first.
    ``simultaneous``: pairs of replicas measured at one moment, which both must sit on one instrument that can.
    ``warn`` receives sentences for the user. ``guard``: a process, started when the bench opens, that makes everything safe if
    this one is killed. ``interlocks`` are asked before sourcing and with every reading. ``ramp_order``: names of controls in
    groups that ramp one after the other, in reverse order down. ``mixers`` drive concentrations. ``corrections``: what a
    calibration found. ``book`` is told of charge before it passes electrodes. Raises ConfigError for whatever can be judged
    without opening anything.
    """

    def __init__(
        self,
        name: str,
        instruments: Sequence[InstrumentSpec],
        controls: Sequence[ControlWire],
        outputs: Sequence[OutputWire],
        envelope: SafetyEnvelope,
        clock: Clock,
        *,
        replicas: Mapping[str, Mapping[str, str]] | None = None,
        simultaneous: Sequence[tuple[str, str]] = (),
        ramp_period: float = RAMP_PERIOD,
        warn: Callable[[str], None] | None = None,
        guard: Guard | None = None,
        interlocks: Sequence[InterlockWire] = (),
        ramp_order: Sequence[Sequence[str]] = (),
        mixers: Sequence[MixerSpec] = (),
        corrections: Corrections | None = None,
        book: Book = lambda _charges, _unsure: None,
    ) -> None:
        self._control_wires, self._output_wires = tuple(controls), tuple(outputs)
        self._replicas = {key: dict(paths) for key, paths in (replicas or {}).items()}
        self._classes = check_station(instruments, without_mixed(controls, mixers), outputs, interlocks)
        self._specs = with_watchdogs(instruments, self._classes)
        self._mixer_specs, self._mixers = tuple(mixers), dict[str, Mixer]()
        pairs = tuple((one, other) for one, other in simultaneous)
        check_replicas(self._control_wires, self._output_wires, self._replicas, pairs, self._classes)
        capabilities = Capabilities(
            controls=Layout(tuple(wire.channel for wire in controls)),
            outputs=Layout(tuple(wire.channel for wire in outputs)),
            determinism=Determinism.PHYSICAL,
            replicas=tuple(self._replicas),
            simultaneous=pairs,
            waveforms=waveform_limits(self._classes, self._control_wires, self._output_wires),
        )
        super().__init__(name, capabilities, envelope, clock)
        clock = self._clock  # on which nobody waits beyond a dwell limit
        self._guard, self._interlock_wires = guard or NoGuard(), tuple(interlocks)
        self._order = groups_of(ramp_order, envelope)
        self._dwell.order(self._order or [range(len(controls))])
        self._ramp_period, self._warn = ramp_period, warn or (lambda _: None)
        self._ramper = Ramper(envelope, clock, ramp_period, self._order, self._glance)
        self._corrections, self._aim = corrections or Corrections(), Aim(envelope, self._warn)
        self._corrections.check(self._control_wires, self._output_wires)
        self._station: Station | None = None
        self._drives, self._senses = list[list[Drive]](), list[list[Sense]]()
        self._readers = dict[tuple[int, ...], Read]()
        self._movers, self._verify, self._notices = Movers(), Verification(), Notices()
        self._way_home = WayHome(envelope, clock, self._movers, ramp_period, self._order)
        self._switchboard = Switchboard((), Interlocks((), {}), self._way_home, self._guard, self._warn)
        self._book, self._flow = book, FlowMeters((), envelope, clock)
        self._meters_ready = self._limited = False
        self._looked_at = -np.inf
        self._noise = Noise(len(outputs))

    # -- life cycle ---------------------------------------------------------------------------------------------

    def _open(self) -> None:
        controls = (guarded(self._control_wires, self._mixer_specs), self._replicas)
        self._guard.start(lambda: guard_plan(self._specs, self._classes, *controls, self.envelope, self._warn))
        try:
            self._tie(build_station(self._specs, self._classes))
        except BaseException:
            self._guard.dismiss()
            raise

    def _tie(self, station: "Station") -> None:
        try:
            parts = at_nodes(station.components, self._control_wires, self._replicas)
            self._mixers = {one.name: Mixer.of(one, parts, self._clock, self._specs) for one in self._mixer_specs}
            parts |= self._mixers
            self._drives = numbered(tied(tie_control, self._control_wires, self._replicas, parts))
            senses = tied(tie_output, self._output_wires, self._replicas, parts)
            self._senses = at_sources(self._drives, self._corrections.tied(self._drives, senses, station.components))
            self._movers = Movers()
            self._notices.listen(parts.values())
            self._way_home = WayHome(self.envelope, self._clock, self._movers, self._ramp_period, self._order)
            locks = Interlocks(self._interlock_wires, parts)
            self._switchboard = Switchboard(self._specs, locks, self._way_home, self._guard, self._warn)
            for mixer in self._mixers.values():
                mixer.also = self._while_it_flows
            drives = list(chain.from_iterable(self._drives))
            self._flow = FlowMeters(drives, self.envelope, self._clock, self._control_wires, self._corrections, self._book)
            self._switchboard.switched = self._flow.begin
            standing = partial(self._ramper.check, self._drives, self._movers)
            self._verify = Verification((self._switchboard.check, self._flow.check), standing)
        except BaseException:
            close_station(station)
            raise
        self._station, self._meters_ready, self._readers = station, False, {}

    def _while_it_flows(self) -> None:
        """What has to be so during an exchange of liquid, which takes a minute: voltages stay applied meanwhile."""
        self._switchboard.check()
        self._flow.check_in_exchange()

    def _close(self) -> None:
        if self._station is not None:
            close_station(self._station)
            self._station = None
        self._drives, self._senses = [], []
        self._guard.take_over(needed=not self._way_home.reached)

    def _make_safe(self) -> None:
        self._meters_ready, self._looked_at = False, -np.inf
        drives = list(chain.from_iterable(self._drives))
        try:
            self._way_home.go(drives)
        finally:
            for drive in drives:
                drive.on_course = False
                if drive.output is not Output.ON:
                    # Whatever made us leave may have reset the instrument: it is configured afresh before its next use.
                    drive.output = Output.UNTOUCHED if drive.output is Output.OFF else drive.output
            self._flow.rest()
            forget(self._station.components.values() if self._station is not None else ())

    # -- apply --------------------------------------------------------------------------------------------------

    def _apply(self, stimulus: Stimulus) -> None:
        self._apply_row([stimulus])

    def _apply_row(self, row: Sequence[Stimulus]) -> None:
        """Bring the controls of the first replicas to their stimuli, all together, along checked ramps."""
        self._prepare_meters()
        now = self._clock.now()
        self._verify.begin(now)
        targets = [self._aim.stimulus(drives, stimulus) for drives, stimulus in zip(self._drives, row, strict=False)]
        for drives, stimulus in zip(self._drives, targets, strict=False):
            for drive, wanted in zip(drives, stimulus.connected, strict=True):
                if not wanted and drive.output is not Output.FLOATING:
                    self._switchboard.float(drive, drives)
                elif wanted and drive.output is not Output.ON:
                    self._switchboard.switch_on(drive, drives)
        if now - self._looked_at > STALE_AFTER:
            self._look(list(chain.from_iterable(self._drives[: len(targets)])))
            self._looked_at = now
        self._ramper.go([(self._drives[k], stimulus.values) for k, stimulus in enumerate(targets)], self._movers, now)

    def _prepare_meters(self) -> None:
        if not self._meters_ready:
            configure_meters(chain.from_iterable(self._senses), self._warn)
            self._readers.clear()
            self._meters_ready = True

    def _glance(self, now: float) -> None:
        self._verify.glance(now)

    def _look(self, drives: Sequence[Drive]) -> None:
        look_at([drive for drive in drives if drive.output is Output.ON], self._movers)

    def terminals(self) -> dict[str, float | None]:
        """What the instruments themselves say of every control now: its level, or None where the output is off.

        Of the first replica. A closed backend knows nothing and says None.
        """
        found: dict[str, float | None] = dict.fromkeys(self.capabilities.controls.names)
        for drive in self._drives[0] if self._drives else ():
            state = drive.port.source_state()
            found[drive.channel.name] = state.level if state.on else None
        return found

    # -- settle and read ----------------------------------------------------------------------------------------

    def _settle(self, policy: SettlePolicy) -> SettleReport:
        return self._settle_replicas((0,), policy)

    def _settle_replicas(self, replicas: tuple[int, ...], policy: SettlePolicy) -> SettleReport:
        begin = self._clock.now()
        drives = [drive for replica in replicas for drive in self._drives[replica]]
        dead = max((drive.channel.dead_time for drive in drives), default=0.0)
        if dead > 0:
            self._clock.sleep(min(dead, policy.timeout))
        pending = [drive for drive in drives if drive.is_pressure]

        def late() -> list[str]:
            nonlocal pending
            self._look(drives if self._looked_at != begin else pending)
            self._looked_at = begin
            pending = [drive for drive in pending if drive.output is Output.ON and not drive.in_limits]
            return [drive.channel.name for drive in pending]

        failed = until_in_limits(late, self._clock, policy, begin, self._warn, self._glance)
        if failed is not None:
            return failed
        reader, outputs = self._reader(replicas), self.capabilities.outputs
        flatten = partial(until_flat, lambda: reader(1)[0][0], outputs, self._clock, policy, begin, self._glance)
        report, flat = flatten()
        limited = at_compliance(drives)
        if limited and report.settled:
            # A source charges a cable at its compliance and leaves it; one that stays there marks what is read.
            self._look(limited)
            if at_compliance(limited) != limited:
                report, flat = flatten()
        short = ", ".join(f"{drive.channel.name!r} ({drive.plan.compliance:g} A)" for drive in at_compliance(drives))
        self._limited = bool(short)
        if short:
            self._warn(f"at compliance, so that the value is not reached: {short}; readings are marked as overload")
        if report.settled and len(replicas) == 1:
            self._noise.learn(flat)
        return report

    def _reader(self, replicas: tuple[int, ...]) -> Read:
        if replicas not in self._readers:
            self._readers[replicas] = self._dwell.foreseen(Reader([one for replica in replicas for one in self._senses[replica]]))
        return self._readers[replicas]

    def _read(self, samples: int) -> Reading:
        """Standard error from the spread of the samples; of a single one, from the flat windows seen while settling."""
        values, overload = self._reader((0,))(samples)
        mean, std = self._noise.judge(values)
        limited = self._verify(self._drives[0]) or self._limited
        self._notices.tell(self._warn)
        return Reading(mean, std, overload.any(axis=0) | limited, self._clock.now())

    def _measure(self, stimuli: Sequence[Stimulus], policy: SettlePolicy, samples: int) -> Readings:
        if policy.dwell is not None and len(stimuli) >= 3:
            sweep = self._list_sweep((0,), [[stimulus] for stimulus in stimuli], policy.dwell)
            if sweep is not None:
                return self._sweep(sweep, stimuli, policy, samples)
        rows: list[Reading] = []
        for number, stimulus in enumerate(stimuli):
            self._drive(stimulus)
            self._applied = stimulus
            self.relaxations += 1
            if policy.dwell is not None:
                self._clock.sleep(policy.dwell)
            if policy.dwell is None or number in (0, len(stimuli) - 1):
                require_settled("stimulus", self._settle(policy), policy, number, len(stimuli))
            rows.append(self._recorded(stimulus, samples))
        return Readings.stack(rows)

    def _sweep(self, sweep: ListSweep, stimuli: Sequence[Stimulus], policy: SettlePolicy, samples: int) -> Readings:
        """The instrument's own list sweep; the last stimulus stays applied. The first and the last point are judged."""
        self._drive(stimuli[0])
        self._applied = stimuli[0]
        require_settled("stimulus", self._settle(policy), policy, 0, len(stimuli))
        values, _ = swept_values([[stimulus] for stimulus in stimuli])
        parts = []
        for rows, run in sweep.chunks(values, samples, home=False):
            self._dwell.ahead([[stimulus] for stimulus in stimuli[rows]], sweep.seconds(samples))
            begun = self._clock.now()
            acquired = run()
            count = rows.stop - rows.start
            times = begun + (np.arange(count) + 1.0) * (self._clock.now() - begun) / count
            block = block_of(acquired, samples, times, self._noise.single)
            self.relaxations += count
            self._applied = stimuli[rows.stop - 1]
            # What was read while the source was off, or elsewhere, is no reading of these stimuli: it never goes on record.
            self._verify(self._drives[0])
            self._notify(stimuli[rows], block)
            parts.append(block)
        require_settled("stimulus", self._settle(policy), policy, len(stimuli) - 1, len(stimuli))
        return Readings.joined(parts)

    def _list_sweep(
        self, replicas: tuple[int, ...], rows: Sequence[Sequence[Stimulus]], dwell: float, *, home: bool = False
    ) -> ListSweep | None:
        if (self.envelope.edges and len(self.capabilities.controls) > 1) or self._flow.watched:
            return None  # a difference across an edge is checked on the way, power and charge measured there: a list jumps all
        if self._dwell.shortest < 2.0 * LONGEST_CHUNK:
            return None
        longest = np.tile(self.envelope.max_slew * self._ramp_period, len(replicas))
        drives = [drive for replica in replicas for drive in self._drives[replica]]
        senses = [sense for replica in replicas for sense in self._senses[replica]]
        return list_sweep(drives, senses, *swept_values(rows), dwell, longest, self._aim, home=home)

    def _measure_replicas(self, stimuli: Sequence[Sequence[Stimulus]], policy: SettlePolicy, samples: int) -> FloatArray:
        dwell = policy.dwell if len(stimuli) >= 3 else None
        swept = None if dwell is None else self._list_sweep(tuple(range(len(stimuli[0]))), stimuli, dwell, home=True)
        how = stimuli, policy, samples, RowBench(self._drive, self._dwell.ahead, self._settle_replicas, self._reader, self._clock)
        blocks = measure_rows(*how) if swept is None else measure_list(swept, *how)
        drives = list(chain.from_iterable(self._drives))
        means = [np.empty((0, len(self._drives), len(self._output_wires)))]
        for block in blocks:
            self.relaxations += len(block.means)
            # What was read while a source was off, or elsewhere, is no reading of these stimuli: it never goes on record.
            self._verify(drives)
            self._notify_rows(stimuli[block.rows], block.means, block.std, block.overload, block.time)
            means.append(block.means)
        return np.concatenate(means)

    def _play(self, waveform: Waveform, sample_times: FloatArray) -> Trace:
        """One script that the instrument runs by itself and that ends at 0 V."""
        self._flow.require_playable()
        self._prepare_meters()
        playing = prepared(waveform, sample_times, self._drives[0], self._senses[0], self.envelope, self._aim)
        self._drive(rest_of(self.capabilities.controls, waveform))
        self._dwell.check_plan(waveform)  # once more: what does not move has come to its value meanwhile
        trace = playing(self._switchboard.check)
        self._verify(self._drives[0])
        return trace

    # -- record -------------------------------------------------------------------------------------------------

    def snapshot(self) -> Mapping[str, object]:
        """Instruments with identity and settings, wiring, limits; JSON."""
        components: Mapping[str, Any] = {} if self._station is None else self._station.components
        return {
            "backend": "instruments",
            "name": self.name,
            **bench_record(self._specs, components, self._control_wires, self._output_wires, self.envelope),
            "replicas": {name: dict(paths) for name, paths in self._replicas.items()},
            "ramp_period_s": self._ramp_period,
            **self._corrections.record(),
            **self.usage(),
        }

    def usage(self) -> Mapping[str, object]:
        """What the mixers used up since the bench was opened."""
        return {**usage(list(self._mixers.values())), **self._flow.usage()}
