"""Hard links into a local artifact store: a checkpoint there takes no second place on the disk.

Only files that nobody changes are linked. Where that is impossible, on another disk or on a server,
MLflow copies them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from dlsweep.trackers.mlflow.moved import path_of

#: Uploads the file of a path.
Upload = Callable[[str], object]


def share(files: Iterable[Path], location: str, folder: str, upload: Upload) -> None:
    """Links files into a folder of a local artifact store, or uploads them.

    Args:
        files: The files; they are never changed, only replaced.
        location: The URI of a run's or a model's artifacts.
        folder: The folder there; empty for the uppermost.
        upload: Uploads a file that cannot be linked.
    """
    root = path_of(location)
    for file in files:
        if root is None or not _link(file, root / folder / file.name):
            upload(str(file))


def _link(file: Path, target: Path) -> bool:
    """Replaces a file by a link to another; returns whether that was possible."""
    aside = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() and target.samefile(file):
            return True
        aside.unlink(missing_ok=True)
        aside.hardlink_to(file)
        aside.replace(target)
    except OSError:  # another disk, or one without links; MLflow says what is wrong otherwise
        aside.unlink(missing_ok=True)
        return False
    return True
