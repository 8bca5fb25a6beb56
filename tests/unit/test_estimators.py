"""Device neurons keep scikit-learn's rules, and learn."""

from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_iris
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from hil.core.errors import ConfigError
from hil.estimators import DeviceNeuronClassifier, DeviceNeuronRegressor
from hil.learn.activation import Activation


@parametrize_with_checks([DeviceNeuronClassifier(epochs=40), DeviceNeuronRegressor(epochs=40)])
def test_scikit_learn_finds_nothing_wrong(estimator: Any, check: Any) -> None:
    check(estimator)


def test_iris_is_learned_in_a_cross_validation() -> None:
    x, y = load_iris(return_X_y=True)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    scores = cross_val_score(DeviceNeuronClassifier((2,), random_state=1), x, y, cv=folds)
    assert scores.mean() > 0.93


def test_grid_search_reaches_into_a_pipeline() -> None:
    x, y = load_iris(return_X_y=True)
    search = GridSearchCV(
        make_pipeline(StandardScaler(), DeviceNeuronClassifier(epochs=15, standardise=False, random_state=0)),
        {"deviceneuronclassifier__curve": ["tanh", "sinh"], "deviceneuronclassifier__hidden": [(2,), (4,)]},
        cv=3,
    ).fit(x, y)
    assert search.best_score_ > 0.9


def test_a_regressor_explains_more_than_the_mean() -> None:
    x, y = load_diabetes(return_X_y=True)
    assert cross_val_score(DeviceNeuronRegressor((4,), epochs=30, random_state=0), x, y, cv=3).mean() > 0.35


def test_a_measured_curve_takes_the_place_of_the_family() -> None:
    x, y = load_iris(return_X_y=True)
    voltage = np.linspace(-0.3, 0.3, 61)
    fitted = DeviceNeuronClassifier(curve=Activation(voltage, np.sinh(voltage / 0.1) * 1e-6), epochs=30, random_state=0).fit(x, y)
    assert fitted.score(x, y) > 0.9
    with pytest.raises(ConfigError, match="both sides of 0 V"):
        DeviceNeuronClassifier(curve=Activation(voltage + 1.0, voltage)).fit(x, y)


def test_unknown_names_are_refused_in_a_sentence() -> None:
    x, y = load_iris(return_X_y=True)
    with pytest.raises(ConfigError, match="no family of curves 'cosh'"):
        DeviceNeuronClassifier(curve="cosh").fit(x, y)
    with pytest.raises(ConfigError, match="no schedule"):
        DeviceNeuronClassifier(schedule="sometimes").fit(x, y)
