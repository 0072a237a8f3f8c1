"""Points in three classes, of which 1 is left in the last batch of 13."""

from __future__ import annotations

import numpy as np

from dlsweep.data import Data, Split


def points(count: int, seed: int):
    random = np.random.default_rng(seed)
    targets = np.arange(count) % 3
    inputs = np.array([[0, 2], [2, 0], [-2, -2]])[targets] + random.normal(size=(count, 2))
    return inputs.astype(np.float32), targets


def arrays() -> dict:
    return {"train": points(92, 0), "validation": points(31, 1), "test": points(17, 2)}


def prices() -> Data:
    """Values to predict, of which a model sees standardized ones."""
    parts = []
    for count, seed in ((92, 0), (31, 1), (17, 2)):
        inputs, targets = points(count, seed)
        parts.append(Split(inputs, 500 + 100 * np.stack([targets, inputs[:, 0], inputs[:, 1]], 1)))
    return Data(*parts, target_mean=[600.0, 500.0, 500.0], target_std=100.0)
