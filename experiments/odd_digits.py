"""A small data set for transfer learning: is a handwritten digit odd?"""

from __future__ import annotations

from dataclasses import replace

from dlsweep.data import Data, Split, mnist


def odd_digits(examples: int = 200, seed: int = 0) -> Data:
    """Loads a few digits to train on, of the two classes even and odd, and 2,000 to validate on.

    Args:
        examples: The number of training examples.
        seed: The seed of the choice of training and validation digits.
    """
    digits = mnist(seed=seed)
    train, validation = digits.train, digits.validation
    return replace(
        digits,
        train=Split(train.inputs[:examples], train.targets[:examples] % 2),
        validation=Split(validation.inputs, validation.targets % 2),
        classes=2,
        record={"name": "odd_digits", "class_names": ["even", "odd"]},
    )
