"""Which checkpoint of a run a tracker uploads, and which of its files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from dlsweep.errors import ConfigError
from dlsweep.folders.reading import read_text
from dlsweep.folders.removal import Removal
from dlsweep.folders.rundir import RunDir
from dlsweep.run.keeping import checkpoints_of
from dlsweep.run.manifest import MANIFEST, digest_of, resume_files, slim_manifest

#: The values of the option ``checkpoint``.
Keep = Literal["best", "last", "none"]


@dataclass(frozen=True)
class Kept:
    """A checkpoint as a tracker keeps it.

    Attributes:
        path: Its folder.
        files: Its files, except for the manifest; nobody changes them.
        manifest: The manifest of these files.
        digest: A digest over all files of the checkpoint, also of those that are left out.
    """

    path: Path
    files: list[Path]
    manifest: str
    digest: str

    @property
    def size(self) -> int:
        """Its size in bytes."""
        return sum(file.stat().st_size for file in self.files) + len(self.manifest.encode())


def check_keep(tracker: str, keep: str) -> None:
    """Checks the option ``checkpoint``.

    Raises:
        ConfigError: If it has an unknown value.
    """
    if keep not in get_args(Keep):
        raise ConfigError(
            f"tracking.{tracker}.checkpoint: Received {keep!r}. Expected best, last or none."
        )


def kept_checkpoint(run: RunDir, keep: Keep) -> Kept | None:
    """Returns the checkpoint to upload, if there is one: whole if the run folder keeps it whole."""
    if keep == "none":
        return None
    checkpoints = checkpoints_of(run)
    found = checkpoints.best() if keep == "best" else checkpoints.latest()
    removal = Removal.of(run)
    if not found or (keep == "last" and removal and removal.last != found.path.name):
        return None
    return _kept(found.path, weights_only=run.info().keep != "all")


def trained_weights(run: RunDir) -> Kept | None:
    """Returns the weights of the best checkpoint, if there is one."""
    found = checkpoints_of(run).best()
    return _kept(found.path, weights_only=True) if found else None


def _kept(path: Path, weights_only: bool) -> Kept:
    left_out = {MANIFEST, *(file.name for file in resume_files(path) if weights_only)}
    files = [file for file in sorted(path.iterdir()) if file.name not in left_out]
    manifest = slim_manifest(path) if weights_only else read_text(path / MANIFEST)
    return Kept(path, files, manifest, digest_of(path))
