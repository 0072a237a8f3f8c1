"""What stays of an ended run's checkpoints: only the best weights, nothing, or all.

A removal can be killed at any moment and done again: the run folder notes it first, a manifest is
replaced before the files that it no longer names are removed, and a whole checkpoint is renamed
before it is.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from dlsweep.errors import ConfigError, StudyError
from dlsweep.folders.attempt import Attempt
from dlsweep.folders.reading import read_json
from dlsweep.folders.removal import Removal
from dlsweep.folders.rundir import RunDir, refuse_link
from dlsweep.run.checkpoint import ASIDE, RETIRED, Checkpointer, remove
from dlsweep.run.manifest import MANIFEST, resume_files, slim

#: What stays of a study's ended trials: the weights of each completed one, those of the N best, or
#: everything.
Keep: TypeAlias = int | Literal["best", "all"]


def read_keep(name: str, given: object) -> Keep:
    """Reads a policy.

    Args:
        name: The key or the flag, for the error.
        given: Its value.

    Raises:
        ConfigError: If it is no policy.
    """
    if given == "best" or given == "all":
        return "best" if given == "best" else "all"
    text = str(given)
    if not isinstance(given, bool) and text.isascii() and text.isdigit() and int(text) > 0:
        return int(text)
    raise ConfigError(
        f"{name}: Received {given!r}. Expected best (the best weights of each completed trial), "
        f"a number from 1 (those of so many of the best trials) or all.\nType, for instance,  "
        f"{name}=10"
    )


def checkpoints_of(run: RunDir) -> Checkpointer:
    """Returns the checkpoints of a run, without opening it for training."""
    info = run.info()
    return Checkpointer(
        run.checkpoints,
        monitor=info.objective[0] if info.objective else None,
        mode="max" if info.directions[:1] == ["maximize"] else "min",
        run=info.id,
        attempt=Attempt.current(run),
    )


@dataclass(frozen=True)
class Surplus:
    """What goes of an ended run's checkpoints.

    Attributes:
        run: The run folder.
        folders: The checkpoints that go, and what a kill has left of others.
        files: The files of the checkpoint that stays which only a resumed training needs.
        left: The checkpoint whose weights stay, if any.
        last: The name of the last checkpoint.
    """

    run: RunDir
    folders: list[Path]
    files: list[Path]
    left: Path | None
    last: str

    @property
    def size(self) -> int:
        """The bytes that it frees; a file that a tracker shares frees none."""
        inside = [file for folder in self.folders for file in folder.iterdir()]
        stats = [file.lstat() for file in [*inside, *self.files]]
        return sum(one.st_size for one in stats if one.st_nlink == 1)

    @property
    def is_nothing(self) -> bool:
        """Whether nothing goes."""
        return not (self.folders or self.files)

    def remove(self, keep: Keep) -> None:
        """Removes it.

        Args:
            keep: The policy, for the note in the run folder.
        """
        if self.is_nothing:
            return
        earlier = Removal.of(self.run)
        last = earlier.last if earlier else self.last
        Removal(str(keep), last, self.left.name if self.left else None).write(self.run)
        if self.left and self.files:
            slim(self.left)
        for folder in self.folders:
            if folder.name.startswith("."):
                shutil.rmtree(folder)
            else:
                remove(folder)


def surplus(run: RunDir, keeps_weights: bool) -> Surplus:
    """Returns what goes of an ended run's checkpoints.

    Args:
        run: The run folder.
        keeps_weights: Whether its best weights stay.

    Raises:
        StudyError: If a folder is a symbolic link.
    """
    for folder in (run.path, run.checkpoints):
        refuse_link(folder)
    found = sorted(filter(_is_checkpoint, run.checkpoints.glob("step-*")))
    hidden = [
        one
        for end in (ASIDE, RETIRED)
        for one in sorted(run.checkpoints.glob(f".step-*{end}"))
        if one.is_dir() and not one.is_symlink()
    ]
    left = _best(run, found) if keeps_weights else None
    if keeps_weights and not left:
        return Surplus(run, [], [], None, "")
    folders = [one for one in found if one != left]
    files = resume_files(left) if left else []
    return Surplus(run, [*folders, *hidden], files, left, found[-1].name if found else "")


def _is_checkpoint(path: Path) -> bool:
    """Whether a folder is one that a checkpointer has made, not one of the user's own files."""
    if path.is_symlink():
        return False
    try:
        manifest = read_json(path / MANIFEST)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except StudyError:  # it is damaged
        return True
    return isinstance(manifest, dict) and {"step", "records", "files"} <= manifest.keys()


def _best(run: RunDir, found: list[Path]) -> Path | None:
    if len(found) == 1 and not resume_files(found[0]):
        return found[0]  # without reading all of it, because nothing of it goes
    best = checkpoints_of(run).best() if found else None
    return best.path if best else None
