"""Logs a classifier's confusion matrix, example predictions and surest mistakes."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, TypeAlias

import numpy as np

from dlsweep.data.base import Array
from dlsweep.run.run import Run

with contextlib.suppress(ImportError):
    import PIL.Image

    PIL.Image.preinit()  # imports formats once, before trials are forked

#: The inputs, the targets and the outputs of a batch, the last two of shape [examples] and
#: [examples, classes].
Outcome: TypeAlias = tuple[Any, Array, Array]

_EXAMPLES = 20
_IMAGES = 16
_MOST_CLASSES = 50


def log_predictions(run: Run, part: str, outcomes: Iterable[Outcome], step: int) -> None:
    """Logs a model's predictions on a part of the data.

    The tables are ``<part>/confusion``, a row for each target and a column for each predicted class
    (up to 50 classes), and ``<part>/predictions``, the first 20 examples. For images,
    ``<part>/mistakes`` shows the surest mistakes, if Pillow is installed. Nothing is logged if the
    outputs are not one logit for each class.

    Args:
        run: The run to log to.
        part: ``val`` or ``test``.
        outcomes: The outcome of each batch.
        step: The step.
    """
    found = _Predictions()
    for inputs, targets, outputs in outcomes:
        if targets.ndim != 1 or targets.dtype.kind not in "iu" or outputs.ndim != 2:
            return
        found.add(inputs, targets, outputs)
    classes = found.confusion.shape[1]
    if classes <= _MOST_CLASSES:
        rows = [[target, *counts] for target, counts in enumerate(found.confusion.tolist())]
        run.log_table(f"{part}/confusion", ["target", *map(str, range(classes))], rows, step)
    columns = ["index", "target", "predicted", "probability"]
    run.log_table(f"{part}/predictions", columns, found.examples, step)
    if found.mistakes and find_spec("PIL"):
        run.log_image(f"{part}/mistakes", _grid([image for _, image in found.mistakes]), step)


@dataclass
class _Predictions:
    """The predictions of all batches so far.

    Attributes:
        confusion: The number of examples of each target (row) and predicted class (column).
        seen: The number of examples.
        examples: The first examples: index, target, predicted class and its probability.
        mistakes: The surest mistakes: probability and image [height, width, channels].
    """

    confusion: Array = field(default_factory=lambda: np.zeros((0, 0), np.int64))
    seen: int = 0
    examples: list[list[float]] = field(default_factory=list)
    mistakes: list[tuple[float, Array]] = field(default_factory=list)

    def add(self, inputs: Any, targets: Array, outputs: Array) -> None:
        predicted = outputs.argmax(1)
        logits = outputs.astype(np.float64)
        surety = 1 / np.exp(logits - logits.max(1, keepdims=True)).sum(1)
        if not self.confusion.size:
            self.confusion = np.zeros((outputs.shape[1],) * 2, np.int64)
        known = targets >= 0  # PyTorch ignores others
        np.add.at(self.confusion, (targets[known], predicted[known]), 1)
        for row in range(min(len(targets), _EXAMPLES - len(self.examples))):
            about = self.seen + row, int(targets[row]), int(predicted[row]), float(surety[row])
            self.examples.append([*about])
        self.seen += len(targets)
        wrong = np.flatnonzero(known & (predicted != targets))
        for row in wrong[np.argsort(-surety[wrong], kind="stable")][:_IMAGES]:
            if len(self.mistakes) == _IMAGES and surety[row] <= self.mistakes[-1][0]:
                break
            self._keep(float(surety[row]), _image(inputs, row))

    def _keep(self, surety: float, image: Array | None) -> None:
        """Keeps a mistake's image if it is one of the surest, and has the size of the others."""
        if image is not None and all(image.shape == other.shape for _, other in self.mistakes):
            self.mistakes.append((surety, image))
            self.mistakes.sort(key=lambda one: -one[0])
            del self.mistakes[_IMAGES:]


def _image(inputs: Any, row: int) -> Array | None:
    """Converts an input of shape [height, width] or [channels, height, width] to an image."""
    if not isinstance(inputs, np.ndarray) or inputs.ndim not in (3, 4):
        return None
    one: Array = inputs[row] if inputs.ndim == 4 else inputs[row][None]
    if one.shape[0] not in (1, 3):
        return None
    low, high = float(one.min()), float(one.max())
    shades: Array = ((one - low) / ((high - low) or 1.0)).clip(0, 1)
    return shades.transpose(1, 2, 0)


def _grid(images: list[Array]) -> Array:
    """Arranges images in a grid."""
    columns = math.ceil(math.sqrt(len(images)))
    missing = -len(images) % columns
    cells = np.stack([*images, *[np.zeros_like(images[0])] * missing])
    _, height, width, channels = cells.shape
    grid = cells.reshape(-1, columns, height, width, channels).transpose(0, 2, 1, 3, 4)
    return grid.reshape(-1, columns * width, channels)
