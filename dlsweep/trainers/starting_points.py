"""Where a new run starts from, if not from scratch: another run's weights, or a whole checkpoint.

``training.initial_weights`` takes the model's weights alone; ``training.resume_from`` takes over
all of a training. Both name a folder.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from dlsweep.checkpoint import Checkpoint, open_checkpoint
from dlsweep.errors import CheckpointError, ConfigError
from dlsweep.run import Run
from dlsweep.rundir import RunDir

_FROM_RUNS = ("initial_weights",)
Shapes = Mapping[str, list[int]]


def check_starting_point(name: str, given: str | os.PathLike[str], file: str) -> Path:
    """Sees that there is something to start from; reads none of it.

    Args:
        name: Of the argument, ``initial_weights`` or ``resume_from``.
        given: Its value; a relative one counts from the folder that the command was typed in.
        file: What the trainer's own checkpoints hold.

    Returns:
        The folder: a checkpoint's or, for weights alone, a run's.

    Raises:
        ConfigError: If there is no checkpoint.
        CheckpointError: If it is another framework's.
    """
    path = Path(given).expanduser().absolute()
    found = sorted(path.glob("checkpoints/step-*"))
    is_run = bool(found)
    if (path / "manifest.json").is_file():
        found = [path]
    if not found or (is_run and name not in _FROM_RUNS):
        kind = "a run's or a checkpoint's" if name in _FROM_RUNS else "a checkpoint's"
        like = found[-1] if found else "outputs/mnist/trials/0007/checkpoints/step-00000005"
        raise ConfigError(
            f"training.{name}: Received {path}, which {_is(path)}.\n"
            f"Expected {kind} folder, such as {like}"
        )
    if not any((one / file).exists() for one in found):
        raise CheckpointError(
            f"training.{name}: {path} was saved by another framework: there is no {file}.\n"
            "Train with the framework that it comes from,  framework=<name>"
        )
    return path


def find_checkpoint(name: str, given: str | os.PathLike[str], file: str) -> Checkpoint:
    """The checkpoint to start from, whole: the one named or, of a run named, the best.

    Raises:
        ConfigError: As :func:`check_starting_point`, which has the same arguments.
        CheckpointError: If it is damaged, or another framework's.
    """
    path = check_starting_point(name, given, file)
    is_checkpoint = (path / "manifest.json").is_file()
    return open_checkpoint(path) if is_checkpoint else Run(RunDir(path)).checkpoints.need_best()


def fitting(source: Path, model: Shapes, saved: Shapes) -> list[str]:
    """The names of the parameters to take over; the others are said.

    Args:
        source: The checkpoint.
        model: The shape of each of the model's parameters, by name.
        saved: The same of the checkpoint.

    Raises:
        CheckpointError: If there are none.
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
        print("Left as initialised, or not in this model:", *lines, sep="\n")
    return taken


def kinds(**parts: object) -> dict[str, str]:
    """The classes of a training's parts, for a checkpoint to tell what its states belong to."""
    return {name: type(part).__qualname__ for name, part in parts.items()}


def check_kinds(saved: Mapping[str, str], here: Mapping[str, str]) -> None:
    """Raises ValueError if a checkpoint's parts are of other classes than those here."""
    for name in dict.fromkeys([*here, *saved]):
        if saved.get(name) != here.get(name):
            raise ValueError(
                f"{name}: {saved.get(name, 'none')} in the checkpoint, {here.get(name, 'none')} "
                "here"
            )


def _is(path: Path) -> str:
    """What is wrong with a folder that was named."""
    if not path.exists():
        return "does not exist"
    return "is a run's folder" if any(path.glob("checkpoints/step-*")) else "holds no checkpoint"
