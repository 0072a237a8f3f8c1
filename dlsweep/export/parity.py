"""Compares an exported model with the trained one, on real validation data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dlsweep.data.base import Array
from dlsweep.errors import ExportError
from dlsweep.results.quality import Measure, measure_for, quality
from dlsweep.trainers.exporting import LABEL, PROBABILITY, Quantization

#: The largest difference between scores, of numbers that are not integers; and the share of
#: examples that may get another class, or points of accuracy that may be lost, with integers.
_TOLERANCES: dict[Quantization | None, float] = {
    None: 1e-4,
    "float16": 0.02,
    "dynamic": 0.01,
    "int8": 0.01,
}
#: The least share of examples with the same class, with 16 bits.
_FLOAT16_AGREEMENT = 0.999


@dataclass(frozen=True)
class Parity:
    """How an exported model compares with the trained one.

    Attributes:
        examples: The number of validation examples.
        largest_difference: The largest difference between two scores, as a share of the largest
            score if that is above 1.
        mean_difference: The mean difference between two scores, as a share of their range.
        agreement: The share of examples with the same class; None without classes.
        measure: The name of the measure of quality: ``accuracy`` or ``mean_absolute_error``; None
            if the scores cannot be compared with the targets.
        trained: The trained model's measure.
        exported: The exported model's measure.
        tolerance: The tolerance; see ``faults``.
    """

    examples: int
    largest_difference: float
    mean_difference: float
    agreement: float | None
    measure: Measure | None
    trained: float
    exported: float
    tolerance: float

    def faults(self, quantization: Quantization | None) -> list[str]:
        """Returns a sentence for each value beyond tolerance.

        Scores may differ by the tolerance. If weights are 8-bit integers, the tolerance is the
        share of examples that may get another class, and the points of accuracy that may be lost;
        without classes, the mean difference.
        """
        most = self.tolerance
        found: list[tuple[str, float | None, float]] = []
        if quantization in ("dynamic", "int8"):
            if self.agreement is None:
                found.append(("the mean difference", self.mean_difference, most))
            else:
                lost = self.trained - self.exported
                found.append(("the share with another class", 1 - self.agreement, most))
                found.append(("the lost accuracy", lost, most))
        else:
            found.append(("the largest difference", self.largest_difference, most))
            if self.agreement is not None:
                share = 1 - _FLOAT16_AGREEMENT if quantization else 0.0
                found.append(("the share with another class", 1 - self.agreement, share))
        return [
            f"{name} is {value:.2g}, more than {limit:.2g}"
            for name, value, limit in found
            if not (value is not None and value <= limit)  # NaN is a fault
        ]


def tolerance_of(given: float | None, quantization: Quantization | None) -> float:
    """Returns the tolerance: the given one, or that of the format's numbers."""
    return _TOLERANCES[quantization] if given is None else given


def compare(
    reference: Array,
    outputs: Mapping[str, Array],
    targets: Array,
    labels: list[str],
    tolerance: float,
    quantization: Quantization | None,
) -> Parity:
    """Compares the outputs of an exported model with those of the trained one.

    Args:
        reference: The trained model's scores, shape [examples, ...].
        outputs: The exported model's outputs by name: the scores and, maybe, the labels.
        targets: The targets.
        labels: The class names; empty if the scores are no classes.
        tolerance: The tolerance.
        quantization: How the exported model's numbers were made smaller.

    Raises:
        ExportError: If the shapes differ, or a label is not that of the highest score.
    """
    found = next(array for name, array in outputs.items() if name not in (LABEL, PROBABILITY))
    if found.shape != reference.shape:
        raise ExportError(
            f"The exported model returns scores of shape {list(found.shape)}, the trained one "
            f"{list(reference.shape)}."
        )
    distance = np.abs(found.astype(np.float64) - reference)
    scale = max(1.0, float(np.abs(reference).max()))
    spread = float(np.ptp(reference)) or 1.0
    agreement: float | None = None
    measure = measure_for(bool(labels), reference, targets)
    if labels:
        slack = 2 * tolerance * scale if quantization is None else 0.0
        agreement = _agreement(reference, found, slack)
        _check_labels(found, outputs, labels)
    trained, exported = (
        quality(measure, scores, targets) if measure else 0.0 for scores in (reference, found)
    )
    return Parity(
        examples=len(reference),
        largest_difference=float(distance.max()) / scale,
        mean_difference=float(distance.mean()) / spread,
        agreement=agreement,
        measure=measure,
        trained=trained,
        exported=exported,
        tolerance=tolerance,
    )


def _agreement(reference: Array, found: Array, slack: float) -> float:
    """Returns the share of examples with the same class; scores within the slack are equal."""
    chosen = np.take_along_axis(reference, found.argmax(1)[:, None], 1)[:, 0]
    return float((chosen >= reference.max(1) - slack).mean())


def _check_labels(scores: Array, outputs: Mapping[str, Array], labels: list[str]) -> None:
    if LABEL not in outputs:
        return
    expected = np.array(labels)[scores.argmax(1)]
    if wrong := int((outputs[LABEL].astype(str) != expected).sum()):
        raise ExportError(f"The exported model names another class for {wrong} examples.")


def plain(parity: Parity) -> dict[str, Any]:
    """Returns a comparison as plain JSON values."""
    found: dict[str, Any] = {
        "examples": parity.examples,
        "largest_difference": parity.largest_difference,
        "mean_difference": parity.mean_difference,
        "agreement": parity.agreement,
        "tolerance": parity.tolerance,
    }
    if parity.measure:
        found[parity.measure] = {"trained": parity.trained, "exported": parity.exported}
    return found
