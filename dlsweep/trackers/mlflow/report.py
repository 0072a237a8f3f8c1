"""Uploads a study's report as an artifact of its parent run in MLflow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from dlsweep.folders.studydir import StudyDir
from dlsweep.trackers.base import State

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient


def send_report(client: MlflowClient, study: StudyDir, state: State) -> None:
    """Uploads the report of a study, if it is a file of the study's own."""
    if _is_own(study):
        client.log_artifact(state["run_id"], str(study.report))


def missing_report(client: MlflowClient, study: StudyDir, state: State) -> Iterator[str]:
    """Yields a sentence if the report is missing."""
    name = study.report.name
    kept = {one.path for one in client.list_artifacts(state["run_id"])}
    if _is_own(study) and name not in kept:
        yield f"its {name} is missing"


def _is_own(study: StudyDir) -> bool:
    return study.report.is_file() and not study.report.is_symlink()
