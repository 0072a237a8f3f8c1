"""Converts metrics, params and tags to MLflow's own, within its limits."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from dlsweep.trackers.mlflow.names import key

if TYPE_CHECKING:
    from mlflow.entities import Metric, Param, RunTag

#: The most characters of a param's and of a tag's value.
_LONGEST_PARAM, LONGEST_TAG = 6000, 5000


def to_metrics(
    points: Iterable[tuple[str, float, float, int]], model_id: str | None = None
) -> list[Metric]:
    """Converts points of name, value, wall time in seconds and step.

    Args:
        points: The points.
        model_id: MLflow's id of the logged model that they belong to, if any.
    """
    from mlflow.entities import Metric

    return [
        Metric(key(name), value, to_ms(time), step, model_id=model_id)
        for name, value, time, step in points
    ]


def to_params(params: Iterable[tuple[str, Any]]) -> list[Param]:
    """Converts names and values; values that are no texts become JSON."""
    from mlflow.entities import Param

    return [Param(key(name), _text(value)[:_LONGEST_PARAM]) for name, value in params]


def to_tags(tags: Mapping[str, str]) -> list[RunTag]:
    """Converts names and texts."""
    from mlflow.entities import RunTag

    return [RunTag(name, value[:LONGEST_TAG]) for name, value in tags.items()]


def to_ms(seconds: float) -> int:
    """Converts seconds to whole milliseconds."""
    return round(seconds * 1000)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)
