"""The best value of a study, trial by trial: a curve for its trackers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from dlsweep.folders.rundir import COMPLETED
from dlsweep.folders.studydir import StudyDir


class Best(NamedTuple):
    """The best value up to a trial, with the wall time in seconds at which that trial ended."""

    trial: int
    time: float
    value: float


def best_so_far(study: StudyDir, info: Mapping[str, Any]) -> list[Best]:
    """Returns the best value up to each completed trial, by its number.

    Only for a study that has ended: its trials stay as they are, and later ones have higher
    numbers, so points that a tracker has stay true.

    Args:
        study: The study folder.
        info: The content of ``study.json``; the curve is that of the first objective.
    """
    if "finished" not in info:
        return []
    name, better = info["objective"][0], max if info["directions"][0] == "maximize" else min
    points: list[Best] = []
    for number in sorted(int(one.name) for one in study.trials.glob("*") if one.name.isdigit()):
        result = study.trial(number).result()
        value = result.metrics.get(name) if result and result.status in COMPLETED else None
        if result and value is not None and math.isfinite(value):
            best = better(value, points[-1].value) if points else value
            points.append(Best(number, result.ended, best))
    return points


def curve_name(info: Mapping[str, Any]) -> str:
    """Returns the name of the curve."""
    return f"best/{info['objective'][0]}"
