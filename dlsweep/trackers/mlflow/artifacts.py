"""Uploads the files of an ended run as MLflow artifacts."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dlsweep.folders.lineage import LINEAGE
from dlsweep.folders.rundir import COMPLETED, Result, RunDir
from dlsweep.run.manifest import MANIFEST
from dlsweep.trackers.base import State
from dlsweep.trackers.checkpoints import Keep, Kept, kept_checkpoint
from dlsweep.trackers.mlflow.sharing import share
from dlsweep.trackers.traces import trace_files

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient


#: A killed process may have cut the log, and a manifest has had more files.
_MAY_DIFFER = ("log.txt", MANIFEST)


def send_files(client: MlflowClient, run: RunDir, result: Result, keep: Keep, state: State) -> None:
    """Uploads log, trace and checkpoint; skips the checkpoint if the same one is there."""
    run_id = state["run_id"]
    for name, file in _log_and_trace(run).items():
        client.log_artifact(run_id, str(file), posixpath.dirname(name))
    kept = _checkpoint(run, result, keep)
    if kept and state.get("checkpoint") != kept.digest:
        place = f"checkpoint/{kept.path.name}"
        location = client.get_run(run_id).info.artifact_uri
        upload = partial(client.log_artifact, run_id, artifact_path=place)
        share(kept.files, location, place, upload)
        client.log_text(run_id, kept.manifest, f"{place}/{MANIFEST}")
        state["checkpoint"] = kept.digest


def missing_files(
    client: MlflowClient, run: RunDir, result: Result, keep: Keep, state: State
) -> Iterator[str]:
    """Yields a sentence for each file of :func:`send_files` that is missing or differs."""
    files = _log_and_trace(run)
    if kept := _checkpoint(run, result, keep):
        place = f"checkpoint/{kept.path.name}"
        files |= {f"{place}/{file.name}": file for file in (*kept.files, kept.path / MANIFEST)}
    folders = sorted({posixpath.dirname(name) for name in files})
    lists = (client.list_artifacts(state["run_id"], folder or None) for folder in folders)
    sizes = {artifact.path: artifact.file_size for found in lists for artifact in found}
    for name, file in sorted(files.items()):
        size = file.stat().st_size
        if name not in sizes:
            yield f"the artifact {name} is missing"
        elif sizes[name] != size and file.name not in _MAY_DIFFER:
            yield f"the artifact {name} has {sizes[name]} bytes, and the file {size}"


def _log_and_trace(run: RunDir) -> dict[str, Path]:
    """Returns the run's log, trace and lineage, as far as there are some, by their names."""
    files = {f"profile/{name}": path for name, path in trace_files(run).items()}
    texts = {"log.txt": run.log_file, LINEAGE: run.path / LINEAGE}
    return {**{name: file for name, file in texts.items() if file.exists()}, **files}


def _checkpoint(run: RunDir, result: Result, keep: Keep) -> Kept | None:
    return kept_checkpoint(run, keep) if result.status in COMPLETED else None
