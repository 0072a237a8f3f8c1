"""The coefficient of determination (R²) of a whole split, from means that add up over batches."""

from __future__ import annotations

import numpy as np

from dlsweep.data.base import Array

#: A target whose variance is a smaller share of its mean square is constant but for rounding.
CONSTANT = 1e-12


def r2_score(terms: Array) -> float:
    """Returns R², like scikit-learn's ``r2_score``: the mean of that of each output.

    Args:
        terms: For each output the mean squared error, the mean of the targets and that of their
            squares; shape [3, outputs], float64. A constant target has the score 1 if there is no
            error, else 0.
    """
    residual, mean, squares = terms
    variance = squares - mean**2
    varies = variance > CONSTANT * squares
    scores = np.where(varies, 1 - residual / np.where(varies, variance, 1.0), residual == 0)
    return float(scores.mean())
