"""The trace files of ``training.profiler``, for trackers."""

from __future__ import annotations

from pathlib import Path

from dlsweep.folders.rundir import RunDir

#: The folder in which TensorBoard looks for traces; TensorFlow creates it.
_PLUGIN = "plugins/profile/"


def trace_files(run: RunDir) -> dict[str, Path]:
    """Returns the files of a run's trace, by their names below ``profile/``.

    Symbolic links are left out, and the metrics that TensorFlow's profiler writes beside its trace.
    """
    folder = run.path / "profile"
    if folder.is_symlink():
        return {}
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    traces = (path for path in files if "tfevents" not in path.name)
    return {path.relative_to(folder).as_posix(): path for path in sorted(traces)}


def viewer_name(name: str) -> str:
    """Returns the file name by which TensorBoard's and W&B's viewers recognize a trace."""
    if name == "trace.json":
        return "trace.pt.trace.json"
    _, plugin, rest = name.rpartition(_PLUGIN)
    return plugin + rest
