"""Trackers that write files beside the runs: their paths, and exact appending after a crash."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from dlsweep.folders import origin
from dlsweep.folders.rundir import RunDir
from dlsweep.trackers.base import State, ViewLostError


def home(run: RunDir) -> Path:
    """Returns the study folder of a trial, or the run folder of a single run."""
    return run.path if run.info().number is None else run.path.parent.parent


def beside(run: RunDir, tool: str) -> Path:
    """Returns the folder of a tool's files."""
    return home(run) / tool


def begin(path: Path, state: State) -> None:
    """Creates an empty file; the state stores its size from now on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    state["size"] = 0


def require(path: Path, state: State) -> None:
    """Checks that a file still contains what was written.

    Raises:
        ViewLostError: If it is gone or shorter than it was.
    """
    size = path.stat().st_size if path.exists() else 0
    if size < state["size"]:
        raise ViewLostError(f"{path} has {size} bytes. Expected {state['size']} or more.")


@contextmanager
def appending(path: Path, state: State) -> Iterator[BinaryIO]:
    """Opens a file at the position in the state; cuts off what a crash left after it.

    Raises:
        ViewLostError: If it is gone or shorter than it was.
    """
    require(path, state)
    with path.open("r+b") as file:
        file.truncate(state["size"])
        file.seek(0, 2)
        yield file
        size = file.tell()
    state["size"] = size


def described_in(run: RunDir) -> Iterator[tuple[Path, Path]]:
    """Yields the files that describe the run: the composed config and the origin."""
    yield from ((run.path, file) for file in sorted(run.config_file.parent.glob("*.yaml")))
    for name in (origin.ORIGIN, origin.DIFF):
        if (file := home(run) / name).exists():
            yield home(run), file
