"""Compares the best of several studies, in a sentence for each pair."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dlsweep.results.tables import Finished


def compared(studies: Sequence[Finished], labels: Sequence[str]) -> list[str]:
    """Returns a sentence for each study after the first: its best against the first's."""
    first = studies[0]
    return [
        _sentence(first, labels[0], other, label)
        for other, label in zip(studies[1:], labels[1:], strict=True)
    ]


def _sentence(one: Finished, a: str, other: Finished, b: str) -> str:
    goals = [(study.objective, list(study.record["directions"])) for study in (one, other)]
    if goals[0] != goals[1]:
        return f"{a} and {b} cannot be compared: {_goal(*goals[0])}, and {_goal(*goals[1])}."
    fronts = [study.best() for study in (one, other)]
    for front, label in zip(fronts, (a, b), strict=True):
        if not front:
            return f"{a} and {b} cannot be compared: no trial of {label} has completed."
    if len(one.objective) > 1:
        return _of_fronts([[t.values for t in front] for front in fronts], goals[0][1], (a, b))
    best = [front[0] for front in fronts]
    values = [trial.values[0] for trial in best]
    name, way = one.objective[0], goals[0][1][0]
    if values[0] == values[1]:
        return f"The best of {a} and the best of {b} have the same {name}, {values[0]:.6g}."
    better = int((values[1] > values[0]) == (way == "maximize"))
    winner, loser = (a, b)[better], (a, b)[1 - better]
    return (
        f"The best of {winner} has {name} {values[better]:.6g} (trial {best[better].number:04d}), "
        f"the best of {loser} {values[1 - better]:.6g} (trial {best[1 - better].number:04d}): "
        f"{winner} is better by {abs(values[0] - values[1]):.3g}. "
        "Each is the best of one search, so chance has a share in it."
    )


def _goal(objective: Sequence[str], directions: Sequence[str]) -> str:
    pairs = zip(directions, objective, strict=True)
    return " and ".join(f"one has to {way} {name}" for way, name in pairs)


def _of_fronts(
    fronts: Sequence[Sequence[Sequence[float]]], directions: Sequence[str], labels: Sequence[str]
) -> str:
    signs = [1.0 if way == "minimize" else -1.0 for way in directions]
    a, b = (np.asarray(front) * signs for front in fronts)
    kept = [int((~_dominated(a, b)).sum()), int((~_dominated(b, a)).sum())]
    return (
        f"On the Pareto front of {labels[0]} and {labels[1]} together are {kept[0]} trials of "
        f"{labels[0]} and {kept[1]} of {labels[1]}."
    )


def _dominated(points: np.ndarray[Any, Any], by: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Whether each point [points, objectives] is beaten by another that is nowhere worse."""
    no_worse = np.all(by[None] <= points[:, None], axis=2)
    better = np.any(by[None] < points[:, None], axis=2)
    return np.asarray(np.any(no_worse & better, axis=1))
