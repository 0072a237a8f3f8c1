"""Which checkpoint of a run a tracker uploads."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal, get_args

from dlsweep.errors import ConfigError
from dlsweep.folders.rundir import RunDir
from dlsweep.run.checkpoint import Checkpointer

#: The values of the option ``checkpoint``.
Keep = Literal["best", "last", "none"]


def check_keep(tracker: str, keep: str) -> None:
    """Checks the option ``checkpoint``.

    Raises:
        ConfigError: If it has an unknown value.
    """
    if keep not in get_args(Keep):
        raise ConfigError(
            f"tracking.{tracker}.checkpoint: Received {keep!r}. Expected best, last or none."
        )


def kept_checkpoint(run: RunDir, keep: Keep) -> Path | None:
    """Returns the folder of the checkpoint to upload, if there is one."""
    if keep == "none":
        return None
    info = run.info()
    checkpoints = Checkpointer(
        run.checkpoints,
        monitor=info.objective[0] if info.objective else None,
        mode="max" if info.directions[:1] == ["maximize"] else "min",
    )
    found = checkpoints.best() if keep == "best" else checkpoints.latest()
    return found.path if found else None


def digest_of(checkpoint: Path) -> str:
    """Returns a digest over all files of a checkpoint."""
    return hashlib.sha256((checkpoint / "manifest.json").read_bytes()).hexdigest()
