"""The files that ``training.profiler`` has written, for the trackers."""

from __future__ import annotations

from pathlib import Path

from dlsweep.rundir import RunDir


def trace_files(run: RunDir) -> dict[str, Path]:
    """A run's trace: each file under the name it has below ``profile/``; links are left out."""
    folder = run.path / "profile"
    if folder.is_symlink():
        return {}
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {path.relative_to(folder).as_posix(): path for path in sorted(files)}


def viewer_name(name: str) -> str:
    """The name by which TensorBoard's and W&B's viewers know a file for theirs."""
    return "trace.pt.trace.json" if name == "trace.json" else name
