"""The files that ``training.profiler`` has written, for the trackers."""

from __future__ import annotations

from pathlib import Path

from dlsweep.folders.rundir import RunDir

#: TensorBoard's own folder for traces, wherever TensorFlow has made it.
_PLUGIN = "plugins/profile/"


def trace_files(run: RunDir) -> dict[str, Path]:
    """A run's trace: each file under the name it has below ``profile/``.

    Links are left out, and the metrics that TensorFlow's profiler writes beside its trace.
    """
    folder = run.path / "profile"
    if folder.is_symlink():
        return {}
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    traces = (path for path in files if "tfevents" not in path.name)
    return {path.relative_to(folder).as_posix(): path for path in sorted(traces)}


def viewer_name(name: str) -> str:
    """The name by which TensorBoard's and W&B's viewers know a file for theirs."""
    if name == "trace.json":
        return "trace.pt.trace.json"
    _, plugin, rest = name.rpartition(_PLUGIN)
    return plugin + rest
