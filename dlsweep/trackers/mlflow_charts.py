"""The charts of a study as artifacts of its parent run in MLflow."""

from __future__ import annotations

import importlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from dlsweep.rundir import StudyDir
from dlsweep.trackers.base import State

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

_FOLDER = "charts"


def preload_charts() -> None:
    """Imports what draws, if it is installed."""
    with suppress(ImportError):  # which is said when the charts are due
        importlib.import_module("dlsweep.charts").preload()


def send_charts(client: MlflowClient, study: StudyDir, state: State) -> None:
    """Draws and uploads a study's charts; the state keeps their names, and what was left out."""
    from dlsweep.charts import draw_charts  # costs a second or two, and only here

    with tempfile.TemporaryDirectory() as folder:
        state["left_out"] = draw_charts(study, Path(folder))
        state["charts"] = sorted(os.listdir(folder))
        client.log_artifacts(state["run_id"], folder, _FOLDER)


def missing_charts(client: MlflowClient, state: State) -> Iterator[str]:
    """Compares the charts that were sent with what is there; each difference in a sentence."""
    if "charts" not in state:
        yield "its charts are missing"
    kept = {one.path for one in client.list_artifacts(state["run_id"], _FOLDER)}
    for name in state.get("charts", ()):
        if f"{_FOLDER}/{name}" not in kept:
            yield f"its chart {name} is missing"
