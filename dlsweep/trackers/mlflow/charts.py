"""Uploads a study's charts as artifacts of its parent run in MLflow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from dlsweep.folders.studydir import StudyDir
from dlsweep.trackers.base import State

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

_FOLDER = "charts"


def send_charts(client: MlflowClient, study: StudyDir, state: State) -> None:
    """Uploads the charts of a study."""
    for chart in study.drawn_charts():
        client.log_artifact(state["run_id"], str(chart), _FOLDER)


def missing_charts(client: MlflowClient, study: StudyDir, state: State) -> Iterator[str]:
    """Yields a sentence for each chart that is missing or differs."""
    kept = {one.path for one in client.list_artifacts(state["run_id"], _FOLDER)}
    for chart in study.drawn_charts():
        if f"{_FOLDER}/{chart.name}" not in kept:
            yield f"its chart {chart.name} is missing"
