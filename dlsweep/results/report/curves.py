"""Learning curves for the report page: what the runs have logged, in a compact form."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dlsweep.folders.rundir import RunDir
from dlsweep.results.report.numbers import rounded

#: How many points a page may contain. More are left out, and the page says so.
_POINTS = 200_000


@dataclass
class Curve:
    """One metric of one run: its steps and their values."""

    row: int
    steps: array[float] = field(default_factory=lambda: array("d"))
    values: array[float] = field(default_factory=lambda: array("d"))


class Curves:
    """The curves of all runs, by metric; runs are added one by one."""

    def __init__(self) -> None:
        self._by_metric: dict[str, list[Curve]] = {}

    def add(self, row: int, run: RunDir) -> Sequence[float]:
        """Adds a run's records.

        Args:
            row: The trial's row in the page's table.
            run: The run folder.

        Returns:
            The wall times of its records.
        """
        times = array("d")
        found: dict[str, Curve] = {}
        for record, _ in run.records():
            times.append(record.time)
            for name, value in record.metrics.items():
                curve = found.get(name)
                if curve is None:
                    curve = found[name] = Curve(row)
                curve.steps.append(record.step)
                curve.values.append(value)
        for name, curve in found.items():
            self._by_metric.setdefault(name, []).append(curve)
        return times

    def compact(self, objective: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
        """Returns the curves as JSON, the objectives first, and what was left out.

        Each metric has ``rows``, and for each of them its ``steps`` (``[first, gap]`` where the gap
        is constant, else all of them) and its ``values``.
        """
        names = sorted(self._by_metric, key=lambda name: (name not in objective, name))
        kept: dict[str, Any] = {}
        left_out, room = [], _POINTS
        said = []
        for name in names:
            curves = self._by_metric[name]
            points = sum(len(curve.values) for curve in curves)
            if points <= room:
                kept[name] = _encoded(curves, 1)
                room -= points
            elif name in objective:
                stride = math.ceil(points / max(room, 1))
                kept[name] = _encoded(curves, stride)
                room = 0
                said.append(f"The curves of {name} show one of {stride} points, and the last.")
            else:
                left_out.append(name)
        if left_out:
            said.append(
                f"Curves that are left out, as they have too many points: {', '.join(left_out)}. "
                "dlsweep.load(...).curves has them."
            )
        return kept, said


def _encoded(curves: Sequence[Curve], stride: int) -> dict[str, Any]:
    encoded: dict[str, Any] = {"rows": [], "steps": [], "values": []}
    for curve in curves:
        steps, values = _thinned(curve.steps, stride), _thinned(curve.values, stride)
        encoded["rows"].append(curve.row)
        encoded["steps"].append(_progression(steps))
        encoded["values"].append([rounded(value) for value in values])
    return encoded


def _thinned(values: Sequence[float], stride: int) -> Sequence[float]:
    kept = values[::stride]
    return kept if (len(values) - 1) % stride == 0 else [*kept, values[-1]]


def _progression(steps: Sequence[float]) -> list[int]:
    """Returns the first step and the gap; all steps, if there are several gaps."""
    whole = [int(step) for step in steps]
    gap = whole[1] - whole[0] if len(whole) > 1 else 1
    if len(whole) != 2 and whole == [whole[0] + gap * k for k in range(len(whole))]:
        return [whole[0], gap]
    return whole
