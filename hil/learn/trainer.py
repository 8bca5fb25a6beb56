"""The training loop: probes out, readings in, one update at a time. It knows a backend only by what it declares."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np

from hil.core.backend import Backend
from hil.core.errors import ConfigError
from hil.core.events import StepDone
from hil.core.types import Determinism, FloatArray, SettlePolicy
from hil.learn.drift import Drift, with_visits
from hil.learn.feasible import FeasibleSet
from hil.learn.gradients.base import Evaluations, GradientEstimate, GradientEstimator, Probes
from hil.learn.loss import Loss, SummedSquaredError
from hil.learn.noise import ReadingNoise
from hil.learn.optimise import Optimiser
from hil.learn.scale import Scale
from hil.learn.tasks import Bindings, Task, outputs_of
from hil.learn.training_state import Ending, Moved, Point, StopRule

CLAMPED = "clamped:"
"""How a backend's warning begins when a device sits on a floor or a source in compliance: its gradient is not to be trusted."""


class Trainer:
    """Finite-difference (or any other estimator's) training on any backend.

    ``steps()`` yields a StepDone for the starting point (step 0) and after every update; ``ending`` and ``reason`` then
    say why it stopped. All state is in ``state_dict()`` (JSON); a trainer of the same making that loads it continues
    exactly where this one stood, inside a gradient plan too. ``checkpoint`` is given it after every block of readings.
    """

    def __init__(
        self,
        backend: Backend,
        task: Task,
        bindings: Bindings,
        scale: Scale,
        feasible: FeasibleSet,
        start: FloatArray,
        estimator: GradientEstimator,
        optimiser: Optimiser,
        *,
        stop: StopRule,
        policy: SettlePolicy,
        samples: int = 1,
        final_samples: int = 20,
        loss: Loss | None = None,
        rng: np.random.Generator | None = None,
        block: int | None = None,
        base_every: int | None = None,
        warnings: Callable[[], Sequence[str]] | None = None,
        checkpoint: Callable[[Mapping[str, object]], None] | None = None,
    ) -> None:
        """``start``: (n,) SI. ``block``: stimuli measured per call of the backend (None: a whole round of probes).

        ``base_every``: come back to the base point after that many probes, and take the drift that this shows out of them.
        ``final_samples`` are the readings a loss must hold in before it counts; an exact backend gives no new ones.
        """
        self.backend, self.task, self.bindings, self.scale, self.feasible = backend, task, bindings, scale, feasible
        self.estimator, self.optimiser, self.stop, self.policy = estimator, optimiser, stop, policy
        self.samples = samples
        self.final_samples = samples if self._exact else max(final_samples, samples)
        self.loss: Loss = SummedSquaredError() if loss is None else loss
        self.rng = np.random.default_rng(0) if rng is None else rng
        self.block, self.base_every = block, base_every
        self._warnings = warnings or (lambda: ())
        self._keep = checkpoint
        projected, active = feasible.project(np.asarray(start, dtype=np.float64))
        if active:
            raise ConfigError(
                f"the start of the weights lies outside the limits of {', '.join(active)}; start inside, or widen the limits"
            )
        self.theta = scale.to_theta(projected)
        self.step = 0
        self.history: list[float] = []
        self.base: Point | None = None
        self.best: Point | None = None
        self.ending: Ending | None = None
        self.reason = ""
        self.noise = ReadingNoise()
        self._plan: list[list[dict[str, Any]]] = []
        self._plan_rng: Any = None
        self._gradient: GradientEstimate | None = None
        self._active: tuple[str, ...] = ()
        self._announced = False
        self._stands = False
        self._mark = 0
        self.drift: Drift | None = None
        self._best_steps: list[float] = []

    # -- what a caller sees -------------------------------------------------------------------------------------

    @property
    def weights(self) -> dict[str, float]:
        """Present weights by name, SI."""
        return self.weights_at(self.theta)

    def weights_at(self, theta: FloatArray) -> dict[str, float]:
        """Weights by name, SI, at coordinates (n,)."""
        return {name: float(value) for name, value in zip(self.bindings.weights, self.scale.to_si(theta), strict=True)}

    def outputs_at(self, point: Point) -> dict[str, float]:
        """Target outputs by name; of a batch, those of input k as ``name[k]``."""
        names = self.task.output_names
        if len(self.task) == 1:
            return {name: float(value) for name, value in zip(names, point.outputs[0], strict=True)}
        return {f"{name}[{row}]": float(point.outputs[row, k]) for row in range(len(self.task)) for k, name in enumerate(names)}

    def threshold(self, point: Point) -> float:
        """The loss at which training stops: max(requested, what noise alone would give on the target).

        That is the mean plus 4 standard deviations of the cost of outputs that are right but for their noise; readings
        cannot tell a smaller cost from none.
        """
        targets = self.task.targets
        mean = float(self.loss.value(targets + point.noise, targets))  # the mean of e² over noise σ is σ²
        return max(self.stop.loss_below or 0.0, mean + 4.0 * float(self.loss.std(targets, point.noise, targets)))

    def steps(self) -> Iterator[StepDone]:
        """Train. Stop by ceasing to iterate; iterate again to go on. Raises what ``Backend.measure`` raises."""
        while self.ending is None:
            if self.base is None:
                self._mark = self._clamps()
            base = self._settled_base()
            if not self._announced:
                self._announced = True
                self.history.append(base.loss)
                if self.best is None or base.loss < self.best.loss:
                    self.best = base
                self._best_steps.append(self.best.loss)
                yield self._event(base, self._clamps() - self._mark)
            if self._judge(base):
                return
            if self._plan_rng is None:
                self._mark = self._clamps()
            self._gradient = self._estimate(base)
            self._update(self._gradient.value, self._clamps() > self._mark)

    def finish(self) -> Point:
        """Leave the best weights applied, and return what was read there (``final_samples`` readings)."""
        if self.best is None:
            raise ConfigError("nothing has been measured yet: iterate over steps() first")
        base = self.base
        if base is not None and base.remeasured and self._stands and np.array_equal(base.theta, self.best.theta):
            return base
        self.best = self._measure_base(self.best.theta, self.final_samples)
        return self.best

    def revisit(self) -> Moved | None:
        """After ``load_state_dict`` on a backend that did not keep its own state: measure first where it stood.

        That is the base point or, before it was measured, the best one. When it has moved by more than its noise explains,
        the new reading replaces the old one, and probes that were measured against that are measured again. None before
        anything was measured.
        """
        self._stands = False
        before = self.best if self.base is None else self.base
        if before is None:
            return None
        now = self._measure_base(before.theta, self.final_samples if before.remeasured else self.samples)
        moved = Moved.between(before, now)
        if moved.significant or self.base_every is not None:
            self._plan = []  # times before and after an interruption belong to two clocks, so no line goes through both
        if moved.significant:
            self.base = None if self.base is None else now
            self.best = now if self.best is not None and np.array_equal(self.best.theta, now.theta) else self.best
        self._checkpoint()
        return moved

    # -- measuring ----------------------------------------------------------------------------------------------

    @property
    def clamped(self) -> bool:
        """Whether anything was clamped so far."""
        return self._clamps() > 0

    @property
    def _exact(self) -> bool:
        return self.backend.capabilities.determinism is Determinism.EXACT

    def _clamps(self) -> int:
        return sum(message.startswith(CLAMPED) for message in self._warnings())

    def _measure(self, points: FloatArray, samples: int) -> list[dict[str, Any]]:
        """Outputs, noise and time at each of (n_points, n) coordinates, as JSON-able rows."""
        stimuli = self.bindings.stimuli(self.scale.to_si(points), self.task)
        readings = self.backend.measure(stimuli, self.policy, samples)
        outputs, noise = outputs_of(readings, self.backend.capabilities.outputs, self.task)
        times = readings.time.reshape(len(points), -1)[:, -1]
        return [{"outputs": outputs[k].tolist(), "noise": noise[k].tolist(), "time": float(times[k])} for k in range(len(points))]

    def _measure_base(self, theta: FloatArray, samples: int) -> Point:
        return self._point(theta, self._measure(theta[None, :], samples)[0], remeasured=samples != self.samples or self._exact)

    def _point(self, theta: FloatArray, row: Mapping[str, Any], *, remeasured: bool) -> Point:
        """The evaluated point on which the backend now stands."""
        self._stands = True
        outputs, own = np.array(row["outputs"]), np.array(row["noise"])
        noise = self.noise.total(own if remeasured else self.noise.within(own))
        loss, loss_std = self.loss.value(outputs, self.task.targets), self.loss.std(outputs, noise, self.task.targets)
        return Point(theta, outputs, noise, own, float(loss), float(loss_std), row["time"], remeasured)

    def _settled_base(self) -> Point:
        """The base point, measured once; again, with many readings, before it may count as converged.

        So is a point that did not improve: noise may be why, and two visits to one point show how large it is.
        """
        if self.base is None:
            self.base = self._measure_base(self.theta, self.samples)
            self._checkpoint()
        worse = self.best is not None and self.base.loss >= self.best.loss and not self._announced
        if not self.base.remeasured and (worse or self._below(self.base)):
            first, again = self.base, self._measure(self.theta[None, :], self.final_samples)[0]
            self.noise.repeated(first.outputs, first.own, np.array(again["outputs"]), np.array(again["noise"]))
            self.base = self._point(self.theta, again, remeasured=True)
            self._checkpoint()
        return self.base

    def _below(self, point: Point) -> bool:
        return self.stop.loss_below is not None and point.loss < self.threshold(point)

    def _estimate(self, base: Point) -> GradientEstimate:
        """Run the estimator, answering from rounds that were measured before an interruption where there are any."""
        if self._plan_rng is None:
            self._plan_rng = self.rng.bit_generator.state
        else:
            self.rng.bit_generator.state = self._plan_rng
        plan = self.estimator.estimate(self.theta, self.rng)
        answers: list[Evaluations] = []
        try:
            probes = next(plan)
            while True:
                answers.append(self._answer(len(answers), probes, base))
                probes = plan.send(answers[-1])
        except StopIteration as done:
            self.noise.pool([np.array(row["noise"]) for round_ in self._plan for row in round_])
            self._plan, self._plan_rng = [], None
            return cast(GradientEstimate, done.value)

    def _answer(self, number: int, probes: Probes, base: Point) -> Evaluations:
        points = probes.points
        at_base = [bool(np.array_equal(point, base.theta)) for point in points]
        wanted = np.array([point for point, same in zip(points, at_base, strict=True) if not same]).reshape(-1, len(base.theta))
        visits = np.zeros(len(wanted), dtype=np.bool_)
        if self.base_every is not None:
            wanted, visits = with_visits(wanted, base.theta, self.base_every)
        if number == len(self._plan):
            self._plan.append([])
        rows = self._plan[number]
        size = len(wanted) if self.block is None else max(1, self.block // len(self.task))
        while len(rows) < len(wanted):
            self._stands = False
            rows += self._measure(wanted[len(rows) : len(rows) + size], self.samples)
            self._checkpoint()
        fresh = iter([row for row, visit in zip(rows, visits, strict=True) if not visit])
        known = {"outputs": base.outputs, "noise": base.own, "time": base.time}
        outputs, noise, times = self._columns([known if same else next(fresh) for same in at_base])
        if visits.any():
            seen = self._columns([known, *(row for row, visit in zip(rows, visits, strict=True) if visit)])
            self.drift = Drift.fit(seen[2], seen[0], seen[1])
            outputs, noise = self.drift.removed(outputs, noise, times)
            outputs[at_base] = self.drift.value
        targets = self.task.targets
        return Evaluations(self.loss.value(outputs, targets), self.loss.std(outputs, noise, targets), outputs, times)

    def _columns(self, rows: Sequence[Mapping[str, Any]]) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Outputs and noise (n, n_inputs, n_outputs), times (n,)."""
        outputs, noise = (np.array([row[name] for row in rows]) for name in ("outputs", "noise"))
        return outputs, self.noise.total(noise), np.array([row["time"] for row in rows])

    # -- deciding -----------------------------------------------------------------------------------------------

    def _judge(self, base: Point) -> bool:
        if self._below(base):
            how = "" if self._exact else f" in {self.final_samples} readings"
            return self._end(Ending.CONVERGED, f"the loss {base.loss:.3g} is below {self.threshold(base):.3g}{how}")
        if self.step >= self.stop.max_steps:
            return self._end(Ending.EXHAUSTED, f"{self.step} steps were made; the best loss was {self._best_steps[-1]:.3g}")
        patience = self.stop.patience
        if patience is not None and len(self._best_steps) > patience:
            before = self._best_steps[-1 - patience]
            if self._best_steps[-1] > 0.999 * before:
                return self._end(Ending.STALLED, f"the best loss {before:.3g} has not fallen by 0.1 % in {patience} steps")
        return False

    def _end(self, ending: Ending, reason: str) -> bool:
        self.ending, self.reason = ending, reason
        return True

    def _update(self, gradient: FloatArray, clamped: bool) -> None:
        if not np.any(gradient):
            why = "a device or source is clamped, see the warnings" if clamped or self._clamps() else "no weight changes the loss"
            self._end(Ending.STALLED, f"the gradient is zero in every weight: {why}")
            return
        wanted = self.optimiser.step(self.theta, gradient)
        if not np.all(np.isfinite(wanted)):
            raise ConfigError(f"the update of step {self.step + 1} is not finite; lower the learning rate")
        inside = np.clip(wanted, self.scale.lower, self.scale.upper)
        held = tuple(name for name, a, b in zip(self.bindings.weights, wanted, inside, strict=True) if a != b)
        allowed, more = self.feasible.project(self.scale.to_si(inside))
        self._active = held + more
        theta = self.scale.to_theta(allowed) if more else inside
        if np.array_equal(theta, self.theta):
            why = f"the limits of {', '.join(self._active)} hold them" if self._active else "the update is below rounding"
            self._end(Ending.STALLED, f"no weight moves any more: {why}")
            return
        self.theta = np.clip(theta, self.scale.lower, self.scale.upper)
        self.step += 1
        self.base, self._announced = None, False
        self._checkpoint()

    def _event(self, base: Point, clamps: int) -> StepDone:
        # Before the first update there is no gradient yet.
        nothing = np.full(len(self.theta), np.nan)
        gradient = GradientEstimate(nothing, nothing) if self._gradient is None else self._gradient
        return StepDone(
            step=self.step,
            theta=self.theta,
            weights=self.weights,
            loss=base.loss,
            loss_std=base.loss_std,
            outputs=self.outputs_at(base),
            gradient=gradient.value,
            relaxations=self.backend.relaxations,
            info={
                "loss_floor": self.threshold(base),
                "remeasured": base.remeasured,
                "newly_clamped": clamps > 0,
                "limits": list(self._active),
                "gradient_std": gradient.std.tolist(),
                **({} if self.drift is None else {"drift": self.drift.facts(self.task.output_names)}),
            },
        )

    def _checkpoint(self) -> None:
        if self._keep is not None:
            self._keep(self.state_dict())

    # -- state --------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, object]:
        """Weights, optimiser, random generator, history, and the position inside the plan; JSON."""
        return {
            "theta": self.theta.tolist(),
            "step": self.step,
            "history": list(self.history),
            "best_steps": list(self._best_steps),
            "base": None if self.base is None else self.base.packed(),
            "best": None if self.best is None else self.best.packed(),
            "noise": self.noise.state_dict(),
            "plan": [list(rows) for rows in self._plan],
            "plan_rng": self._plan_rng,
            "rng": self.rng.bit_generator.state,
            "gradient": None if self._gradient is None else [self._gradient.value.tolist(), self._gradient.std.tolist()],
            "active": list(self._active),
            "announced": self._announced,
            "stands": self._stands,
            "mark": self._mark,
            "drift": None if self.drift is None else self.drift.packed(),
            "ending": self.ending,
            "reason": self.reason,
            "optimiser": self.optimiser.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state_dict`` of a trainer of the same making; ConfigError when the numbers of weights differ."""
        theta = np.array(state["theta"], dtype=np.float64)
        if theta.shape != self.theta.shape:
            raise ConfigError(f"the saved state has {len(theta)} weights, this protocol trains {len(self.theta)}")
        self.theta = theta
        self.step = state["step"]
        self.history = list(state["history"])
        self._best_steps = list(state["best_steps"])
        self.base, self.best = (None if state[part] is None else Point.unpacked(state[part]) for part in ("base", "best"))
        self.noise.load_state_dict(state["noise"])
        self._plan = [list(rows) for rows in state["plan"]]
        self._plan_rng = state["plan_rng"]
        self.rng.bit_generator.state = state["rng"]
        saved = state["gradient"]
        self._gradient = None if saved is None else GradientEstimate(*(np.array(part, dtype=np.float64) for part in saved))
        self._active = tuple(state["active"])
        self._announced = state["announced"]
        self._stands, self._mark = state["stands"], state["mark"]
        self.drift = None if state["drift"] is None else Drift.unpacked(state["drift"])
        self.ending = None if state["ending"] is None else Ending(state["ending"])
        self.reason = state["reason"]
        self.optimiser.load_state_dict(state["optimiser"])
