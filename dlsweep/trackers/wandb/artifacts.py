"""Logs checkpoints, traces and exported models as artifacts of a W&B run."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from dlsweep.folders.rundir import COMPLETED, Result, RunDir
from dlsweep.run.manifest import MANIFEST
from dlsweep.trackers.base import State
from dlsweep.trackers.checkpoints import Keep, kept_checkpoint
from dlsweep.trackers.exports import ExportedVersion
from dlsweep.trackers.traces import trace_files, viewer_name
from dlsweep.trackers.wandb.offline import offline_folders, read_offline

if TYPE_CHECKING:
    import wandb

#: The names of a run's artifacts.
_CHECKPOINT, _TRACE = "checkpoint-{}", "trace-{}"


def add_checkpoint(opened: wandb.Run, run: RunDir, keep: Keep, state: State) -> None:
    """Adds the checkpoint, unless the same one is there."""
    kept = kept_checkpoint(run, keep)
    if not kept or state.get("checkpoint") == kept.digest:
        return
    import wandb

    manifest = json.loads(kept.manifest)
    artifact = wandb.Artifact(_CHECKPOINT.format(run.info().id), "model", metadata=manifest)
    for file in kept.files:
        artifact.add_file(str(file))
    with artifact.new_file(MANIFEST) as written:
        written.write(kept.manifest)
    aliases = ["latest", "best"] if keep == "best" else ["latest"]
    opened.log_artifact(artifact, aliases=aliases)
    state["checkpoint"] = kept.digest


def add_trace(opened: wandb.Run, run: RunDir, state: State) -> None:
    """Adds the profiler's trace, unless the same files are there."""
    files = trace_files(run)
    sizes = {name: path.stat().st_size for name, path in files.items()}
    if not files or state.get("trace") == sizes:
        return
    import wandb

    artifact = wandb.Artifact(_TRACE.format(run.info().id), "profile")
    for name, path in files.items():
        artifact.add_file(str(path), viewer_name(name))
    opened.log_artifact(artifact)
    state["trace"] = sizes


def add_export(
    opened: wandb.Run, run: RunDir, export: ExportedVersion, name: str, alias: str | None
) -> None:
    """Adds an exported model under the name and the alias of a registered model."""
    import wandb

    metadata = {**export.identity(run), **export.tags(run), **export.record}
    artifact = wandb.Artifact(
        name, "model", description=export.about(run), metadata={**metadata, "parity": export.parity}
    )
    for folder, paths in export.files.items():
        for path in paths:
            artifact.add_file(str(path), posixpath.join(folder, path.name))
    opened.log_artifact(artifact, aliases=_aliases(alias))


def has_export(run: RunDir, export: ExportedVersion, name: str, alias: str | None) -> bool:
    """Whether the offline files contain an exported model; W&B's server checks this itself."""
    return any(
        one["name"] == name
        and set(_aliases(alias)) <= {*one["aliases"]}
        and json.loads(one["metadata"]).get("dlsweep.digest") == export.digest
        for one in _artifacts(run)
    )


def _aliases(alias: str | None) -> list[str]:
    return ["latest", alias] if alias else ["latest"]


def missing_artifacts(run: RunDir, result: Result, keep: Keep) -> Iterator[str]:
    """Yields a sentence for each artifact that the offline files lack."""
    kept = {one["name"] for one in _artifacts(run)}
    expected = [_TRACE.format(run.info().id)] if trace_files(run) else []
    if result.status in COMPLETED and kept_checkpoint(run, keep):
        expected.append(_CHECKPOINT.format(run.info().id))
    yield from (f"the artifact {name} is missing" for name in expected if name not in kept)


def _artifacts(run: RunDir) -> Iterator[dict[str, Any]]:
    """Yields what the offline files say of each artifact."""
    for folder in offline_folders(run):
        for record in read_offline(folder):
            if record["type"] == "artifact":
                yield record["artifact"]
