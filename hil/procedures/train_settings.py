"""Fields of a ``train_network`` protocol file, checked as far as they can be without a bench."""

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, Field, model_validator

from hil.core.errors import ConfigError
from hil.core.types import FloatArray, Quantity
from hil.experiment.fields import AnyQuantity, AsTuple, FieldError, Given, Name, Number, Strict, choice, refuse, unknown
from hil.experiment.protocol import Protocol
from hil.learn.gradients import registry as gradients
from hil.learn.optimise import OPTIMISERS
from hil.learn.scale import Scaling

KINDS: Mapping[str, Quantity] = {
    "pressure": Quantity.PRESSURE,
    "concentration": Quantity.CONCENTRATION,
    "length": Quantity.LENGTH,
    "radius_ratio": Quantity.RATIO,
    "conductance": Quantity.CONDUCTANCE,
}
"""Kinds of weights, each with the quantity of the channels it trains."""


class Start(Strict):
    """Where weights begin: one value for all of them, or one for each channel."""

    every: AnyQuantity | None = None
    each: dict[Name, AnyQuantity] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _short(cls, data: Any) -> Any:
        if isinstance(data, Mapping):
            return data if set(data) <= {"every", "each"} else {"each": data}
        return {"every": data}

    def si(self, channel: str, unit: str, field: str) -> float:
        """SI value for ``channel``; FieldError when it has none."""
        given = self.each.get(channel, self.every)
        if given is None:
            raise FieldError(f"weight {channel!r} has no start; add it, or give one value for all", field)
        return given.si(unit, field)


class Chosen(Strict):
    """A method by name with its own options; the name alone will do."""

    method: str
    options: dict[Name, Number] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _short(cls, data: Any) -> Any:
        return {"method": data} if isinstance(data, str) else data


class OptimiserChoice(Chosen):
    """Optimiser: gradient_descent, momentum (option beta), adam (beta1, beta2, epsilon)."""

    method: Annotated[str, choice(*OPTIMISERS)] = "gradient_descent"


class GradientChoice(Chosen):
    """How the gradient is found. ``scaling`` says in which coordinates steps and rates count: ``si`` as in the papers,
    ``linear`` or ``log`` with θ ∈ [0, 1] across the range of every channel. ``base_every``: come back to the base point after
    that many probes, and take the drift that this shows out of the differences.
    """

    method: str = "forward_difference"
    base_every: Annotated[int, Field(ge=1)] | None = None
    scaling: Annotated[str, choice(*Scaling)] = Scaling.SI.value

    @model_validator(mode="after")
    def _known(self) -> "GradientChoice":
        if self.method not in gradients.names():
            refuse(unknown("gradient method", self.method, list(gradients.names())), "method")
        return self


class WeightSet(Strict):
    """One kind of weights. ``step`` and ``learning_rate`` are in the units of the chosen scaling.

    ``fixed_radius`` says which radius stays when a radius ratio is trained; ``channels`` trains only some of the kind;
    ``optimiser`` and ``loss_below`` replace those of the protocol when this kind alone is trained.
    """

    start: Start
    step: AnyQuantity
    learning_rate: AnyQuantity
    fixed_radius: Annotated[str, choice("base", "tip")] = "base"
    channels: Annotated[tuple[Name, ...], AsTuple] | None = None
    optimiser: OptimiserChoice | None = None
    loss_below: AnyQuantity | None = None


class Values(Strict):
    """Values of one input: a list, or ``points`` of them from ``from`` to ``to``, both ends included."""

    from_: AnyQuantity | None = None
    to: AnyQuantity | None = None
    points: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    values: Annotated[tuple[AnyQuantity, ...], AsTuple] | None = None

    @model_validator(mode="before")
    @classmethod
    def _short(cls, data: Any) -> Any:
        if isinstance(data, Mapping):
            return {"from_" if key == "from" else key: value for key, value in data.items()}
        return {"values": data if isinstance(data, list | tuple) else [data]}

    @model_validator(mode="after")
    def _complete(self) -> "Values":
        line = [self.from_ is not None, self.to is not None, self.points is not None]
        if (self.values is not None and any(line)) or (self.values is None and not all(line)) or self.values == ():
            refuse("give either a list of values, or all three of `from`, `to` and `points`")
        return self

    def si(self, unit: str, field: str) -> FloatArray:
        """SI values, (n_inputs,)."""
        if self.values is not None:
            return np.array([value.si(unit, f"{field}.{k}") for k, value in enumerate(self.values)])
        if self.from_ is None or self.to is None or self.points is None:
            raise FieldError("give all three of `from`, `to` and `points`", field)
        return np.linspace(self.from_.si(unit, f"{field}.from"), self.to.si(unit, f"{field}.to"), self.points)


class Target(Strict):
    """What one output should be: a value, a straight line in one input, or a list with one value for each input."""

    value: AnyQuantity | None = None
    slope: AnyQuantity | None = None
    offset: AnyQuantity | None = None
    of: Name | None = None
    table: Annotated[tuple[AnyQuantity, ...], AsTuple] | None = None

    @model_validator(mode="before")
    @classmethod
    def _short(cls, data: Any) -> Any:
        if isinstance(data, Mapping):
            return data
        return {"table": data} if isinstance(data, list | tuple) else {"value": data}

    @model_validator(mode="after")
    def _complete(self) -> "Target":
        forms = [self.value is not None, self.slope is not None or self.offset is not None, self.table is not None]
        if sum(forms) != 1 or (forms[1] and (self.slope is None or self.offset is None)) or self.table == ():
            refuse("give a target as one value, as `slope` and `offset`, or as a list with one value for each input")
        return self

    @property
    def first(self) -> Given:
        """One of the quantities in the unit of the output."""
        return self.value or self.offset or (self.table or (Given(0.0),))[0]


def _names(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return tuple(value) if isinstance(value, list) else value


class Stop(Strict):
    """When to stop; see ``hil.learn.trainer.StopRule``. Without ``loss_below`` training runs to ``max_steps``."""

    loss_below: AnyQuantity | None = None
    max_steps: Annotated[int, Field(ge=0, le=10_000_000)] = 200
    patience: Annotated[int, Field(ge=1)] | None = None


class Settings(Protocol):
    """A training protocol.

    ``apply`` fixes controls; ``inputs`` makes a batch of stimuli, ``held_out`` a second one that is only measured at the
    end; ``targets`` are the outputs wanted; ``weights`` names the kinds trained, each described in ``weight_sets``.
    ``results_reference`` is what rms errors of a batch are divided by (the span of the targets when it is not given).
    """

    apply: dict[Name, AnyQuantity] = Field(default_factory=dict)
    inputs: dict[Name, Values] = Field(default_factory=dict)
    held_out: dict[Name, Values] = Field(default_factory=dict)
    targets: Annotated[dict[Name, Target], Field(min_length=1)]
    weights: Annotated[tuple[Name, ...], BeforeValidator(_names), Field(min_length=1)]
    weight_sets: dict[Name, WeightSet]
    gradient: GradientChoice = Field(default_factory=GradientChoice)
    optimiser: OptimiserChoice = Field(default_factory=OptimiserChoice)
    stop: Stop = Field(default_factory=Stop)
    results_reference: AnyQuantity | None = None
    final_samples: Annotated[int, Field(ge=1, le=100_000)] = 20

    def tuned_as(self) -> dict[str, str]:
        """Which radius a trained radius ratio leaves alone."""
        ratio = self.weight_sets.get("radius_ratio")
        return {} if ratio is None else {"radius_ratio": f"radius_ratio_fixed_{ratio.fixed_radius}"}

    @property
    def output_unit(self) -> str:
        """Unit of the targets: V or A."""
        given = next(iter(self.targets.values())).first
        try:
            given.si("A", "targets")
        except ConfigError:
            return "V"
        return "V" if given.text == 0 else "A"

    def step_unit(self, kind: str) -> str:
        """Unit of ``step`` in the chosen scaling."""
        return KINDS[kind].value if self.gradient.scaling == Scaling.SI else "1"

    def rate_unit(self, kind: str) -> str:
        """Unit of ``learning_rate``: step² per loss where the update follows the gradient, the unit of the step otherwise."""
        unit = self.step_unit(kind)
        if not OPTIMISERS[self.chosen_optimiser.method].rate_per_loss:
            return unit
        return f"1/({self.output_unit})^2" if unit == "1" else f"({unit})^2/({self.output_unit})^2"

    @property
    def chosen_optimiser(self) -> OptimiserChoice:
        """The optimiser of the weights that are trained."""
        own = self.weight_sets[self.weights[0]].optimiser if len(self.weights) == 1 else None
        return own or self.optimiser

    @property
    def loss_below(self) -> float | None:
        """Requested loss, SI (squared output unit)."""
        own = self.weight_sets[self.weights[0]].loss_below if len(self.weights) == 1 else None
        given, field = (own, f"weight_sets.{self.weights[0]}.loss_below") if own else (self.stop.loss_below, "stop.loss_below")
        return None if given is None else given.si(f"({self.output_unit})^2", field)

    @model_validator(mode="after")
    def _consistent(self) -> "Settings":
        for kind in self.weight_sets:
            if kind not in KINDS:
                refuse(unknown("kind of weights", kind, list(KINDS)), f"weight_sets.{kind}")
        for kind in self.weights:
            if kind not in self.weight_sets:
                refuse(f"weights {kind!r} are not described; described are: {', '.join(self.weight_sets)}", "weights")
        if len(set(self.weights)) < len(self.weights):
            refuse("a kind of weights is named twice", "weights")
        if self.held_out and set(self.held_out) != set(self.inputs):
            refuse(f"held-out inputs must be for the same channels as inputs ({', '.join(self.inputs) or 'none'})", "held_out")
        for name, target in self.targets.items():
            self._check_target(name, target)
        try:
            self._check_units()
        except FieldError as error:
            refuse(str(error), error.field)
        return self

    def _check_target(self, name: str, target: Target) -> None:
        if target.slope is not None:
            if target.of is None and len(self.inputs) != 1:
                refuse("say which input the line is a function of: `of: NAME`", f"targets.{name}")
            if target.of is not None and target.of not in self.inputs:
                refuse(unknown("input", target.of, list(self.inputs)), f"targets.{name}.of")
        if target.table is not None and self.held_out:
            refuse("held-out inputs need targets that are a function (`slope`, `offset`) or one value", f"targets.{name}")

    def _check_units(self) -> None:
        """Everything whose unit does not depend on the bench; FieldError for the first wrong one."""
        for kind in self.weights:
            chosen, field = self.weight_sets[kind], f"weight_sets.{kind}"
            if not chosen.step.si(self.step_unit(kind), f"{field}.step") > 0:
                raise FieldError(f"'{chosen.step}' must be above 0", f"{field}.step")
            try:
                rate = chosen.learning_rate.si(self.rate_unit(kind), f"{field}.learning_rate")
            except FieldError as error:
                raise FieldError(f"{error}, because the targets are in {self.output_unit}", error.field) from None
            if not rate > 0:
                raise FieldError(f"'{chosen.learning_rate}' must be above 0", f"{field}.learning_rate")
        for kind, chosen in self.weight_sets.items():
            for given in (chosen.start.every, *chosen.start.each.values()):
                if given is not None:
                    given.si(KINDS[kind].value, f"weight_sets.{kind}.start")
        _ = self.loss_below
        self.settle.policy(self.output_unit)
