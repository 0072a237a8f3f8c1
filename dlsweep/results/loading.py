"""Loads and saves the trained model of a run folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from dlsweep.errors import ConfigError
from dlsweep.folders.reading import read_json
from dlsweep.folders.rundir import RunDir
from dlsweep.run.run import Run

if TYPE_CHECKING:
    from dlsweep.trainers.base import Trainer


def load_model(run: str | os.PathLike[str]) -> Any:
    """Loads the trained model of a run, in the framework that trained it.

    This imports the code that the run's config names: load only what you trust. The weights come
    from the best checkpoint and are read without unpickling.

    Args:
        run: The run folder, such as ``outputs/mnist/trials/0007``.

    Returns:
        A ``torch.nn.Module`` in evaluation mode, or a ``keras.Model``. Its inputs are as in
        training: normalized by the ``mean`` and ``std`` in the run's ``data.json``.

    Raises:
        StudyError: If the folder is not a run folder.
        ConfigError: If the run was not trained by a trainer that can load its models.
        CheckpointError: If there is no checkpoint, or none that fits.
    """
    trainer, opened = open_trained(run)
    return trainer.load_model(opened)


def save_model(run: str | os.PathLike[str], path: str | os.PathLike[str]) -> None:
    """Saves the trained model of a run to a file of its framework's own format.

    Code and weights are those of :func:`load_model`. The suffix selects the format:

    ================  =================================================================
    ``.keras``        Keras: architecture and weights
    ``.weights.h5``   Keras: weights
    ``.pt``           PyTorch: the ``state_dict``
    ``.safetensors``  PyTorch: the weights, in a format that cannot hold code
    ================  =================================================================

    Args:
        run: The run folder.
        path: The file, which must not exist.

    Raises:
        StudyError: If the folder is not a run folder.
        ConfigError: If the framework has no format with the suffix, or the file exists.
        MissingExtraError: If safetensors is not installed.
        CheckpointError: If there is no checkpoint, or none that fits.
    """
    trainer, opened = open_trained(run)
    trainer.save_model(opened, Path(path))


def open_trained(run: str | os.PathLike[str]) -> tuple[Trainer, Run]:
    """Opens a trained run: returns its trainer and the run; sets its framework's environment.

    Raises:
        StudyError: If the folder is not a run folder.
        ConfigError: If the run was not trained by a trainer, or something cannot be imported.
    """
    from dlsweep.trial.signature import build, is_trainer, locate

    opened = Run(RunDir(run))
    config = opened.config
    _fill_in_facts(opened)
    for name, value in (OmegaConf.select(config, "framework.env") or {}).items():
        os.environ.setdefault(name, str(value))
    if not is_trainer(locate("training", config.training["_target_"])):
        raise ConfigError(
            f"{opened.dir.path} was trained by the function {config.training['_target_']}, and "
            "only that knows what it has saved.\nExpected a run of a Trainer."
        )
    return build("training", config.training), opened


def _fill_in_facts(run: Run) -> None:
    """Fills in the model arguments that its config left to the data."""
    file = run.dir.path / "data.json"
    facts = read_json(file) if file.exists() else {}
    for name, value in (run.config.get("model") or {}).items():
        if value is None and name in facts:
            OmegaConf.update(run.config, f"model.{name}", facts[name])
