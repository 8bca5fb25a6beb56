"""Data sets by name: Iris and digits from scikit-learn, MNIST from a folder or through OpenML with a local cache."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hil.core.errors import ConfigError
from hil.core.types import FloatArray, RealArray

NAMES = ("iris", "digits", "mnist")
_HOW_TO_GET_MNIST = (
    "set the environment variable HIL_DATA to a folder with `mnist.npz` (arrays x_train, y_train, x_test, y_test), or run once "
    "with a connection to openml.org; it is then kept in the cache of scikit-learn"
)


@dataclass(frozen=True)
class Data:
    """Inputs (n, n_features) and class labels (n,); a test set of its own where the data set has one."""

    name: str
    x: RealArray
    labels: FloatArray
    x_test: RealArray | None = None
    labels_test: FloatArray | None = None


def load(name: str) -> Data:
    """The data set ``name``: Iris (150 x 4), digits (1797 x 64, 0 … 1) or MNIST (60,000 + 10,000 x 784, 0 … 1, float32).

    Raises ConfigError for another name, or saying how to get data that are not there.
    """
    if name == "mnist":
        return _mnist()
    if name not in NAMES:
        raise ConfigError(f"there is no data set {name!r}; known: {', '.join(NAMES)}")
    try:
        from sklearn import datasets
    except ImportError:
        raise ConfigError(
            f"the data set {name!r} comes with scikit-learn, which is not installed; pip install scikit-learn"
        ) from None
    bunch = datasets.load_iris() if name == "iris" else datasets.load_digits()
    x = np.asarray(bunch.data, dtype=np.float64)
    return Data(name, x if name == "iris" else x / 16.0, np.asarray(bunch.target, dtype=np.float64))


def _mnist() -> Data:
    folder = os.environ.get("HIL_DATA")
    if folder:
        path = Path(folder) / "mnist.npz"
        try:
            with np.load(path, allow_pickle=False) as arrays:
                parts = [arrays[key] for key in ("x_train", "y_train", "x_test", "y_test")]
        except (OSError, KeyError, ValueError) as error:
            raise ConfigError(f"MNIST cannot be read from {path} ({error}); {_HOW_TO_GET_MNIST}") from error
    else:
        parts = _openml()
    x, labels, x_test, labels_test = parts
    if len(x) != len(labels) or len(x_test) != len(labels_test) or x[0].size != 784:
        raise ConfigError("the MNIST arrays do not fit together: n images of 28 x 28 and n labels are needed")
    return Data("mnist", _scaled(x), labels.astype(np.float64), _scaled(x_test), labels_test.astype(np.float64))


def _scaled(images: RealArray) -> RealArray:
    flat = images.reshape(len(images), -1).astype(np.float32)
    return np.asarray(flat / np.float32(255.0))


def _openml() -> list[RealArray]:
    try:
        from sklearn.datasets import fetch_openml

        bunch = fetch_openml("mnist_784", version=1, as_frame=False, parser="liac-arff")
    except (ImportError, OSError, ValueError) as error:
        raise ConfigError(f"MNIST is not here ({error}); {_HOW_TO_GET_MNIST}") from error
    x, labels = np.asarray(bunch.data), np.asarray(bunch.target).astype(np.float64)
    return [x[:60_000], labels[:60_000], x[60_000:], labels[60_000:]]


def stratified_folds(labels: FloatArray, count: int, rng: np.random.Generator) -> list[NDArray[np.intp]]:
    """Row numbers of the test part of each of ``count`` folds, every class dealt out evenly."""
    fold = np.empty(len(labels), dtype=np.intp)
    dealt = 0
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        fold[rows] = (dealt + np.arange(len(rows))) % count
        dealt += len(rows)
    return [np.flatnonzero(fold == number) for number in range(count)]
