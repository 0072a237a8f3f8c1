"""Data for a model with two inputs of 32 and 64 features."""

from __future__ import annotations

import numpy as np

from dlsweep.data import Data, Split


def two_views(examples: int = 3000, seed: int = 0) -> Data:
    """Makes points of four classes in two views; neither view alone determines the class.

    Args:
        examples: The number of examples; a fifth is held out.
        seed: The seed of all random numbers.
    """
    random = np.random.default_rng(seed)
    sides = random.integers(0, 2, (examples, 2))
    views = {
        name: (2 * side[:, None] - 1) * random.normal(size=features)
        + random.normal(scale=4, size=(examples, features))
        for name, side, features in zip(("left", "right"), sides.T, (32, 64), strict=True)
    }
    labels = sides @ [1, 2]
    held_out = examples // 5
    parts = [slice(held_out, None), slice(held_out)]
    train, validation = (
        Split({name: view[rows] for name, view in views.items()}, labels[rows]) for rows in parts
    )
    return Data(train, validation, std=4.0, record={"name": "two_views"})
