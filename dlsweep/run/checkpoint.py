"""Atomic checkpoints: a checkpoint is complete, or it does not exist.

A checkpoint is a folder ``checkpoints/step-00000003`` with the files that the trainer wrote and a
``manifest.json`` with their sizes and digests. It is written to a temporary folder, synced, and
renamed. Only then are old checkpoints removed. A damaged checkpoint is skipped with a message, and
the one before it is used.

Some of its files may be there only to resume: those of the optimizer. When a run has ended, they
can be removed, and the weights stay; see :mod:`dlsweep.run.keeping`.

The syncs may run while training continues. If the process is killed meanwhile, the next process
checks the digests and publishes the checkpoint if it is complete.
"""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from dlsweep.errors import CheckpointError
from dlsweep.folders.attempt import Attempt
from dlsweep.folders.removal import Removal
from dlsweep.folders.rundir import RunDir
from dlsweep.run.manifest import INHERITED, MANIFEST, damage, is_whole, seal, sync
from dlsweep.run.ranks import ALONE

Mode = Literal["min", "max"]
#: The suffixes of a checkpoint that is written and that is removed, after a dot and its name.
ASIDE, RETIRED = ".new", ".retired"
#: The exceptions that reading a damaged manifest raises.
_UNREADABLE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    OverflowError,
    RecursionError,
)


@dataclass(frozen=True)
class Checkpoint:
    """A published checkpoint.

    Attributes:
        path: Its folder.
        step: The step it was saved at.
        metrics: The model's metrics at that step, by name.
        records: The size of the run's record file at that step, in bytes.
        seconds: Seconds of training until that step.
        is_whole: Whether a training can resume from it; else it has only the weights.
        is_inherited: Whether population based training copied it from another trial. The run's
            hyperparameters may then differ from those that it was saved with.
    """

    path: Path
    step: int
    metrics: dict[str, float] = field(default_factory=dict)
    records: int = 0
    seconds: float = 0.0
    is_whole: bool = True
    is_inherited: bool = False

    def require_whole(self) -> Path:
        """Returns its folder, for a training that resumes from it.

        Raises:
            CheckpointError: If it has only the weights.
        """
        if self.is_whole:
            return self.path
        run = RunDir(self.path.parent.parent)
        removal = Removal.of(run)
        raise CheckpointError(
            f"{self.path} has only the weights, so no training can resume from it.\n"
            + (f"{removal.sentence(run)}\n" if removal else "")
            + f"To train on from these weights, with a new optimizer, type  "
            f"training.initial_weights={self.path}"
        )


class Checkpointer:
    """Saves, finds and removes the checkpoints of one run.

    Args:
        folder: The folder of the checkpoints.
        monitor: The metric that defines the best checkpoint; without one, the latest is the best.
        mode: Whether a higher (``max``) or a lower (``min``) value is better.
        keep: The number of latest checkpoints to keep; at least two. The best is always kept.
        records: The run's record file; it is synced before a checkpoint is published.
        seconds: Returns the seconds of training so far.
        run: The run's id; if given, checkpoints of other runs are skipped like damaged ones.
        attempt: The attempt that saves; checkpoints that a replaced attempt published are skipped.

    Attributes:
        ranks: The processes of the run; only the first one saves and searches.
    """

    def __init__(
        self,
        folder: Path,
        monitor: str | None = None,
        mode: Mode = "min",
        keep: int = 2,
        records: Path | None = None,
        seconds: Callable[[], float] = lambda: 0.0,
        run: str | None = None,
        attempt: Attempt | None = None,
    ) -> None:
        if keep < 2:
            raise CheckpointError(f"keep: Received {keep}. Expected at least 2.")
        self.folder = folder
        self.monitor = monitor
        self.mode = mode
        self.keep = keep
        self.ranks = ALONE
        self._records = records
        self._seconds = seconds
        self._run = run
        self._attempt = attempt
        self._problems: dict[Path, str] = {}
        self._pool = ThreadPoolExecutor(1)
        self._syncs = ThreadPoolExecutor(4)
        self._publishing: Future[None] | None = None

    def save(
        self,
        step: int,
        write: Callable[[Path], None],
        metrics: dict[str, float] | None = None,
        part: int = 0,
        resume_only: Sequence[str] = (),
    ) -> Checkpoint:
        """Saves a checkpoint and waits until it is published.

        Args:
            step: The step; an existing checkpoint of the same step is replaced.
            write: Called with an empty folder; writes the checkpoint's files there.
            metrics: The model's metrics, by name.
            part: How much of the next step is done as well, in the trainer's own unit.
            resume_only: The names of the files that only a resumed training needs.

        Returns:
            The published checkpoint.
        """
        checkpoint = self.begin_save(step, write, metrics, part, resume_only)
        self.settle()
        return checkpoint

    def begin_save(
        self,
        step: int,
        write: Callable[[Path], None],
        metrics: dict[str, float] | None = None,
        part: int = 0,
        resume_only: Sequence[str] = (),
    ) -> Checkpoint:
        """Saves a checkpoint like :meth:`save`, but syncs and renames it in the background.

        The next save, and every search for a checkpoint, wait for that.

        Returns:
            The checkpoint; it is published after :meth:`settle`.

        Raises:
            StudyError: If a later attempt of the run has begun.
        """
        self.settle()
        if self._attempt:
            self._attempt.check()
        records, seconds = self._records_size(), self._seconds()
        name = f"step-{step:08d}" + (f".{part:08d}" if part else "")
        same = self._of_the_same_step(name)
        final = self.folder / (f"{same[-1].name}+" if same else name)
        for left in self.folder.glob(".step-*"):  # of a save that was killed
            shutil.rmtree(left, ignore_errors=True)
        aside = self.folder / f".{final.name}{ASIDE}"
        aside.mkdir(parents=True)
        manifest = {
            "step": step,
            "run": self._run,
            "attempt": self._attempt.number if self._attempt else 0,
            "metrics": metrics or {},
            "records": records,
            "seconds": seconds,
            "time": time.time(),
        }
        write(aside)
        seal(aside, manifest, list(resume_only))
        self._publishing = self._pool.submit(self._publish, aside, final)
        return Checkpoint(final, step, metrics or {}, records, seconds)

    def settle(self) -> None:
        """Waits until the last save is published.

        Raises:
            OSError: If it could not be written.
        """
        publishing, self._publishing = self._publishing, None
        if publishing:
            publishing.result()

    def publish_leftover(self) -> None:
        """Publishes a killed process's complete checkpoint. Only the run's owner may call it."""
        for aside in self.folder.glob(f".step-*{ASIDE}"):
            if not _problem(aside, self._run) and _read(aside).records <= self._records_size():
                name = aside.name.removeprefix(".").removesuffix(ASIDE)
                if self._attempt:
                    self._attempt.adopt(name)
                self._publish(aside, self.folder / name)

    def latest(self) -> Checkpoint | None:
        """Returns the newest valid checkpoint, or None."""
        self.settle()
        return self._agreed(lambda: next(self._sound(), None))

    def best(self) -> Checkpoint | None:
        """Returns the valid checkpoint with the best finite metric; the newest of equal ones."""
        self.settle()
        return self._agreed(self._find_best)

    def need_best(self) -> Checkpoint:
        """Returns the best checkpoint.

        Raises:
            CheckpointError: If there is none.
        """
        if best := self.best():
            return best
        run = RunDir(self.folder.parent)
        if removal := Removal.of(run):
            raise CheckpointError(removal.sentence(run))
        raise CheckpointError(f"{self.folder} contains no valid checkpoint.")

    def _agreed(self, find: Callable[[], Checkpoint | None]) -> Checkpoint | None:
        """Finds a checkpoint; in a run of several processes, the first one decides for all."""
        if self.ranks.size == 1:
            return find()
        path = self.ranks.agree(lambda: str(found.path) if (found := find()) else "")
        return _read(Path(path)) if path else None

    def _find_best(self) -> Checkpoint | None:
        """Checks the digests of the best checkpoint only, because that takes a while."""
        said = []
        for path in self._paths():
            with contextlib.suppress(*_UNREADABLE):
                said.append(_read(path))
        best = self._best(said)
        return best if best and self._is_sound(best.path) else self._best(list(self._sound()))

    def _best(self, found: list[Checkpoint]) -> Checkpoint | None:
        monitor = self.monitor
        rated = [one for one in found if math.isfinite(one.metrics.get(monitor or "", math.nan))]
        if monitor is None or not rated:
            return found[0] if found else None
        pick = max if self.mode == "max" else min
        return pick(rated, key=lambda one: one.metrics[monitor])

    def _sound(self) -> Iterator[Checkpoint]:
        """Yields this run's valid checkpoints, newest first; prints each other one once."""
        return map(_read, filter(self._is_sound, self._paths()))

    def _paths(self) -> list[Path]:
        """Returns the folders of checkpoints, newest first."""
        return sorted(self.folder.glob("step-*"), reverse=True)

    def _is_sound(self, path: Path) -> bool:
        if path not in self._problems:
            self._problems[path] = problem = _problem(path, self._run, self._attempt)
            if problem:
                print(f"Skipping the damaged checkpoint {path}: {problem}", file=sys.stderr)
        return not self._problems[path]

    def _record_files(self) -> list[Path]:
        """Returns the run's record file, if it exists."""
        return [self._records] if self._records and self._records.exists() else []

    def _records_size(self) -> int:
        return sum(path.stat().st_size for path in self._record_files())

    def _of_the_same_step(self, name: str) -> list[Path]:
        return sorted([*self.folder.glob(name), *self.folder.glob(f"{name}+*")])

    def _publish(self, aside: Path, final: Path) -> None:
        """Syncs a checkpoint, renames it, then removes old ones."""
        try:
            # In parallel, which is faster.
            list(self._syncs.map(sync, [*aside.iterdir(), aside, *self._record_files()]))
        except OSError:  # a later fsync may succeed although data was lost
            shutil.rmtree(aside, ignore_errors=True)
            raise
        if self._attempt and not self._attempt.is_current:
            shutil.rmtree(aside, ignore_errors=True)
            self._attempt.check()
        aside.rename(final)
        sync(self.folder)
        for replaced in self._of_the_same_step(final.name.rstrip("+")):
            if replaced != final:
                remove(replaced)
        self._problems[final] = ""
        self._retire()

    def _retire(self) -> None:
        found = list(self._sound())
        best = self._best(found)
        for old in found[self.keep :]:
            if old != best:
                remove(old.path)


def open_checkpoint(path: Path) -> Checkpoint:
    """Opens the checkpoint in a folder, of any run.

    Raises:
        CheckpointError: If it is damaged.
    """
    if problem := _problem(path):
        raise CheckpointError(f"The checkpoint {path} is damaged: {problem}")
    return _read(path)


def open_manifest(path: Path) -> Checkpoint:
    """Opens the checkpoint in a folder, of any run, without reading all of it.

    Raises:
        CheckpointError: If its manifest is damaged.
    """
    try:
        return _read(path)
    except _UNREADABLE as error:
        raise CheckpointError(f"The checkpoint {path} is damaged: {error}") from None


def _problem(path: Path, run: str | None = None, attempt: Attempt | None = None) -> str:
    """Returns what is wrong with a checkpoint, or an empty string."""
    try:
        _read(path)
        manifest = json.loads((path / MANIFEST).read_text())
        if run is not None and manifest["run"] != run:
            return "it was saved by another run"
        if attempt and not attempt.adopts(path.name, int(manifest.get("attempt", 0))):
            return "it was saved by an attempt that had been replaced"
        return damage(path, manifest["files"])
    except _UNREADABLE as error:
        return f"its manifest: {type(error).__name__}: {error}"


def remove(path: Path) -> None:
    """Removes a checkpoint. It is renamed first, so a kill leaves no partial checkpoint."""
    hidden = path.with_name(f".{path.name}{RETIRED}")
    path.rename(hidden)
    shutil.rmtree(hidden)


def _read(path: Path) -> Checkpoint:
    manifest = json.loads((path / MANIFEST).read_text())
    metrics = {str(name): float(value) for name, value in manifest["metrics"].items()}
    step, records = int(manifest["step"]), int(manifest["records"])
    seconds = float(manifest["seconds"])
    is_inherited = INHERITED in manifest
    return Checkpoint(path, step, metrics, records, seconds, is_whole(manifest), is_inherited)
