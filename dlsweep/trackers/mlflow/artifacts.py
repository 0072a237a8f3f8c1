"""Uploads the files of an ended run as MLflow artifacts."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from dlsweep.folders.rundir import COMPLETED, Result, RunDir
from dlsweep.trackers.base import State
from dlsweep.trackers.checkpoints import Keep, digest_of, kept_checkpoint
from dlsweep.trackers.traces import trace_files

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient


def send_files(client: MlflowClient, run: RunDir, result: Result, keep: Keep, state: State) -> None:
    """Uploads log, trace and checkpoint; skips the checkpoint if the same one is there."""
    for name, file in _log_and_trace(run).items():
        client.log_artifact(state["run_id"], str(file), posixpath.dirname(name))
    checkpoint = _checkpoint(run, result, keep)
    if checkpoint and state.get("checkpoint") != digest_of(checkpoint):
        place = f"checkpoint/{checkpoint.name}"
        client.log_artifacts(state["run_id"], str(checkpoint), place)
        state["checkpoint"] = digest_of(checkpoint)


def missing_files(
    client: MlflowClient, run: RunDir, result: Result, keep: Keep, state: State
) -> Iterator[str]:
    """Yields a sentence for each file of :func:`send_files` that is missing or differs."""
    files = _log_and_trace(run)
    if checkpoint := _checkpoint(run, result, keep):
        files |= {
            f"checkpoint/{checkpoint.name}/{file.name}": file for file in checkpoint.iterdir()
        }
    folders = sorted({posixpath.dirname(name) for name in files})
    lists = (client.list_artifacts(state["run_id"], folder or None) for folder in folders)
    sizes = {artifact.path: artifact.file_size for found in lists for artifact in found}
    for name, file in sorted(files.items()):
        size = file.stat().st_size
        if name not in sizes:
            yield f"the artifact {name} is missing"
        elif sizes[name] != size and file != run.log_file:  # a killed process may have cut it
            yield f"the artifact {name} has {sizes[name]} bytes, and the file {size}"


def _log_and_trace(run: RunDir) -> dict[str, Path]:
    files = {f"profile/{name}": path for name, path in trace_files(run).items()}
    return {"log.txt": run.log_file, **files} if run.log_file.exists() else files


def _checkpoint(run: RunDir, result: Result, keep: Keep) -> Path | None:
    return kept_checkpoint(run, keep) if result.status in COMPLETED else None
