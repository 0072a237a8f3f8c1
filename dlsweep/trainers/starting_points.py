"""The starting point of a new run: another run's weights, or a whole checkpoint.

``training.initial_weights`` loads only the model's weights; ``training.resume_from`` restores the
whole training state. Both are folders.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from dlsweep.errors import CheckpointError, ConfigError
from dlsweep.folders.removal import Removal
from dlsweep.folders.rundir import RunDir
from dlsweep.run.checkpoint import Checkpoint, open_checkpoint, open_manifest
from dlsweep.run.run import Run

Shapes = Mapping[str, list[int]]


@dataclass(frozen=True)
class StartingPoint:
    """The starting point of a new run.

    Attributes:
        given: A checkpoint's folder or, for weights only, a run folder; a relative path is relative
            to the current folder.
        file: The framework's file in a checkpoint.
        weights_only: Whether to load only the model's weights.
    """

    given: str | os.PathLike[str]
    file: str
    weights_only: bool

    def check(self) -> None:
        """Checks that it exists, without reading it.

        Raises:
            ConfigError: If there is no checkpoint.
            CheckpointError: If it belongs to another framework.
        """
        found = self._saved if self.weights_only else []
        if self._is_checkpoint:
            found = [self._path]
        if not found:
            raise ConfigError(
                f"{self._name}: Received {self._path}, which {self._fault}.\n"
                f"{self._removed or f'Expected {self._expected}'}"
            )
        if not self.weights_only:
            open_manifest(self._path).require_whole()
        if not any((one / self.file).exists() for one in found):
            raise CheckpointError(
                f"{self._name}: {self._path} was saved by another framework: there is no "
                f"{self.file}.\nTrain with the framework that it comes from,  framework=<name>"
            )

    def checkpoint(self) -> Checkpoint:
        """Opens the checkpoint; of a run folder, the best one.

        Raises:
            ConfigError: If there is none.
            CheckpointError: If it is damaged, or belongs to another framework.
        """
        self.check()
        if self._is_checkpoint:
            return open_checkpoint(self._path)
        return Run(RunDir(self._path)).checkpoints.need_best()

    @cached_property
    def _path(self) -> Path:
        return Path(self.given).expanduser().absolute()

    @property
    def _is_checkpoint(self) -> bool:
        return (self._path / "manifest.json").is_file()

    @property
    def _saved(self) -> list[Path]:
        """The checkpoints in a run folder."""
        return sorted(self._path.glob("checkpoints/step-*"))

    @property
    def _name(self) -> str:
        return "training.initial_weights" if self.weights_only else "training.resume_from"

    @property
    def _fault(self) -> str:
        if not self._path.exists():
            return "does not exist"
        return "is a run's folder" if self._saved else "contains no checkpoint"

    @property
    def _removed(self) -> str:
        """Says how to have a checkpoint again that was removed."""
        for run in map(RunDir, (self._path, self._path.parent.parent)):
            if removal := Removal.of(run):
                return removal.sentence(run)
        return ""

    @property
    def _expected(self) -> str:
        kind = "a run's or a checkpoint's" if self.weights_only else "a checkpoint's"
        example = Path("outputs/mnist/trials/0007/checkpoints/step-00000005")
        return f"{kind} folder, such as {[example, *self._saved][-1]}"


def fitting(source: Path, model: Shapes, saved: Shapes) -> list[str]:
    """Returns the names of the parameters to load; prints the others.

    Args:
        source: The checkpoint.
        model: The shape of each of the model's parameters, by name.
        saved: The same of the checkpoint.

    Raises:
        CheckpointError: If none fits.
    """
    taken = [name for name, shape in model.items() if saved.get(name) == shape]
    lines = [
        f"  {name}: {saved.get(name, 'none')} in the checkpoint, {model.get(name, 'none')} here"
        for name in dict.fromkeys([*model, *saved])
        if saved.get(name) != model.get(name)
    ]
    if not taken:
        raise CheckpointError(
            f"training.initial_weights: {source} and this model have no parameter in common, by "
            "name and shape:\n" + "\n".join(lines)
        )
    print(f"Initial weights: {len(taken)} of {len(model)} parameters are taken from {source}")
    if lines:
        print("Left as initialized, or not in this model:", *lines, sep="\n")
    return taken


def kinds(**parts: object) -> dict[str, str]:
    """Returns the classes of the parts of a training, which a checkpoint stores."""
    return {name: type(part).__qualname__ for name, part in parts.items()}


def check_kinds(saved: Mapping[str, str], here: Mapping[str, str]) -> None:
    """Raises ValueError if a checkpoint's parts have other classes than those here."""
    for name in dict.fromkeys([*here, *saved]):
        if saved.get(name) != here.get(name):
            raise ValueError(
                f"{name}: {saved.get(name, 'none')} in the checkpoint, {here.get(name, 'none')} "
                "here"
            )
