"""Device neurons behind the interface of scikit-learn: cross-validation, pipelines and grid search work on them.

Without a backend the device is a curve (``curve``: a family by name, or an ``Activation`` made of a measured one). With a
backend every activation and every slope of training and of prediction is measured on it.
"""

from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, clone
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from hil.core.backend import Backend
from hil.core.errors import ConfigError
from hil.core.types import FloatArray, SettlePolicy
from hil.learn.activation import Activation
from hil.learn.families import family_activation
from hil.learn.layered_network import LayeredNetwork
from hil.learn.minibatch import Recipe, train
from hil.learn.neurons import DeviceNeurons, Drive, Neurons, ReLU, TabulatedNeurons, Tanh
from hil.learn.slope import Probe, SequentialSlope, SlopeMeter, TwoDeviceSlope

__all__ = ["DeviceNeuronClassifier", "DeviceNeuronRegressor"]

SLOPES = ("two_device", "two_device_swap", "sequential")


class _DeviceNeuronEstimator(BaseEstimator):
    """What classifier and regressor share. Parameters as in ``DeviceNeuronClassifier``."""

    def __init__(
        self,
        hidden: tuple[int, ...] = (8,),
        *,
        curve: str | Activation = "tanh",
        gain: float = 0.5,
        current: float = 1.0,
        epochs: int = 60,
        batch_size: int = 16,
        learning_rate: float = 0.01,
        optimiser: str = "adam",
        schedule: str = "constant",
        dropout: float = 0.0,
        standardise: bool = True,
        backend: Backend | None = None,
        slope: str = "two_device",
        delta: float = 0.05,
        settle: SettlePolicy | None = None,
        control: str = "V",
        output: str = "I",
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.hidden = hidden
        self.curve = curve
        self.gain = gain
        self.current = current
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.optimiser = optimiser
        self.schedule = schedule
        self.dropout = dropout
        self.standardise = standardise
        self.backend = backend
        self.slope = slope
        self.delta = delta
        self.settle = settle
        self.control = control
        self.output = output
        self.random_state = random_state

    def __sklearn_clone__(self) -> Self:
        """A bench cannot be copied: clones measure on the same one."""
        parameters = self.get_params(deep=False)
        return type(self)(
            **{name: value if name == "backend" else clone(value, safe=False) for name, value in parameters.items()}
        )

    def _neurons(self) -> Neurons:
        if isinstance(self.curve, str) and self.curve in ("baseline_tanh", "baseline_relu"):
            return Tanh() if self.curve == "baseline_tanh" else ReLU()
        if self.backend is None:
            activation = family_activation(self.curve) if isinstance(self.curve, str) else self.curve
            low, high = activation.range
            v_max = min(-low, high)
            if not v_max > 0:
                raise ConfigError(f"a neuron is driven to both sides of 0 V; the curve covers {low:g} … {high:g} V only")
            return TabulatedNeurons(activation, Drive(self.gain, v_max, self.current * float(np.max(np.abs(activation.current)))))
        self.backend.open()
        channel = self.backend.capabilities.controls[self.control]
        v_max = min(-channel.minimum, channel.maximum)
        policy = self.settle or SettlePolicy()
        probe = Probe(self.backend, policy, self.delta * v_max, self.control, self.output)
        ends = self.backend.measure(probe.stimuli(np.array([-v_max, v_max])), policy)
        full = float(np.max(np.abs(ends.values[:, self.backend.capabilities.outputs.index(self.output)])))
        return DeviceNeurons(self._meter(probe), Drive(self.gain, v_max, self.current * full))

    def _meter(self, probe: Probe) -> SlopeMeter:
        if self.slope not in SLOPES:
            raise ConfigError(f"there is no slope {self.slope!r}; known: {', '.join(SLOPES)}")
        if self.slope == "sequential":
            return SequentialSlope(probe)
        return TwoDeviceSlope(probe, swap=self.slope == "two_device_swap")

    def _recipe(self, loss: str) -> Recipe:
        for name, kind in (("epochs", Integral), ("batch_size", Integral), ("learning_rate", Real)):
            if not isinstance(getattr(self, name), kind):
                raise ConfigError(f"{name} must be a number, not {getattr(self, name)!r}")
        return Recipe(self.epochs, self.batch_size, self.learning_rate, self.optimiser, self.schedule, loss, self.dropout)

    def _train(self, x: FloatArray, targets: FloatArray, loss: str) -> None:
        """Fit the network; keeps the scaling, the neurons and the loss of every epoch."""
        recipe = self._recipe(loss)
        state = check_random_state(self.random_state)
        rng = np.random.default_rng(state.randint(0, 2**31 - 1, size=4))
        self.mean_ = x.mean(axis=0) if self.standardise else np.zeros(x.shape[1])
        scale = x.std(axis=0) if self.standardise else np.ones(x.shape[1])
        self.scale_ = np.where(scale > 0, scale, 1.0)
        self.neurons_ = self._neurons()
        self.network_ = LayeredNetwork((x.shape[1], *self.hidden, targets.shape[1]), rng)
        done = train(self.network_, self.neurons_, (x - self.mean_) / self.scale_, targets, recipe, rng)
        self.loss_history_ = [epoch.loss for epoch in done]

    def _outputs(self, x: Any) -> FloatArray:
        check_is_fitted(self)
        checked = validate_data(self, x, reset=False, dtype=np.float64)
        return np.asarray(self.network_.forward((checked - self.mean_) / self.scale_, self.neurons_), dtype=np.float64)


class DeviceNeuronClassifier(ClassifierMixin, _DeviceNeuronEstimator):
    """Classifier with hidden layers of device neurons and a softmax output.

    Parameters: ``hidden`` layer sizes; ``curve`` of the device ("tanh", "sinh", or an ``Activation``; "baseline_tanh" and
    "baseline_relu" are the mathematical functions); ``gain`` from pre-activation to voltage in units of V_max; ``current``
    that counts as activation 1 in units of the largest; ``epochs``, ``batch_size``, ``learning_rate``, ``optimiser``,
    ``schedule``, ``dropout`` (of the inputs); ``standardise`` the inputs; ``backend`` with control ``control`` and output
    ``output``, on which ``slope`` ("two_device", "two_device_swap", "sequential") is measured with spacing ``delta`` (of
    V_max) under the policy ``settle``; ``random_state``.

    Attributes: ``classes_``, ``network_`` (weights), ``neurons_``, ``loss_history_`` (mean loss of every epoch).
    """

    def fit(self, X: Any, y: Any) -> Self:
        """X (n, n_features), y (n,) labels of at least two classes. Raises ValueError for anything else."""
        x, labels = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(labels)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise ConfigError(f"a classifier needs at least two classes; the data hold one class, {self.classes_[0]!r}")
        targets = (codes[:, np.newaxis] == np.arange(len(self.classes_))).astype(np.float64)
        self._train(x, targets, "cross_entropy")
        return self

    def decision_function(self, X: Any) -> FloatArray:
        """Output pre-activations: (n, n_classes), or for two classes (n,) with positive values for the second."""
        outputs = self._outputs(X)
        return outputs[:, 1] - outputs[:, 0] if len(self.classes_) == 2 else outputs

    def predict_proba(self, X: Any) -> FloatArray:
        """Probabilities (n, n_classes)."""
        outputs = self._outputs(X)
        shares = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        return np.asarray(shares / shares.sum(axis=1, keepdims=True))

    def predict(self, X: Any) -> Any:
        """Labels (n,)."""
        best = self._outputs(X).argmax(axis=1)
        return self.classes_[best]


class DeviceNeuronRegressor(RegressorMixin, _DeviceNeuronEstimator):
    """Regressor with hidden layers of device neurons and a linear output; parameters as in ``DeviceNeuronClassifier``.

    Targets are standardised while training. Attributes: ``network_``, ``neurons_``, ``loss_history_``.
    """

    def fit(self, X: Any, y: Any) -> Self:
        """X (n, n_features), y (n,) or (n, n_outputs), finite."""
        x, y = validate_data(self, X, y, dtype=np.float64, multi_output=True, y_numeric=True)
        targets = np.asarray(y, dtype=np.float64)
        self._flat = targets.ndim == 1
        targets = targets.reshape(len(targets), -1)
        self.target_mean_ = targets.mean(axis=0)
        spread = targets.std(axis=0)
        self.target_scale_ = np.where(spread > 0, spread, 1.0)
        self._train(x, (targets - self.target_mean_) / self.target_scale_, "squared_error")
        return self

    def predict(self, X: Any) -> FloatArray:
        """Targets (n,) or (n, n_outputs), as they were given."""
        outputs = np.asarray(self._outputs(X) * self.target_scale_ + self.target_mean_, dtype=np.float64)
        return outputs[:, 0] if self._flat else outputs

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
