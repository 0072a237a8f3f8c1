"""Trained models of run folders, ready to predict."""

from __future__ import annotations

import json
import os
from typing import Any

from omegaconf import OmegaConf

from dlsweep.errors import ConfigError
from dlsweep.run import Run
from dlsweep.rundir import RunDir


def load_model(run: str | os.PathLike[str]) -> Any:
    """The trained model of a run, in the framework that trained it.

    Its code is that which the run's config names, and is imported: load only what you trust. Its
    weights are those of the best checkpoint, and are read without unpickling anything.

    Args:
        run: The run folder, such as ``outputs/mnist/trials/0007``.

    Returns:
        A ``torch.nn.Module`` in evaluation mode, or a ``keras.Model``; it takes inputs as the
        training did, normalised by the ``mean`` and ``std`` in the run's ``data.json``.

    Raises:
        StudyError: If the folder is not a run's.
        ConfigError: If the run's training is not by a trainer that can load its models.
        CheckpointError: If there is no checkpoint, or none that fits.
    """
    from dlsweep.signature import build, is_trainer, locate

    opened = Run(RunDir(run))
    config = opened.config
    _fill_in_facts(opened)
    for name, value in (OmegaConf.select(config, "framework.env") or {}).items():
        os.environ.setdefault(name, str(value))
    if not is_trainer(locate("training", config.training["_target_"])):
        raise ConfigError(
            f"{opened.dir.path} was trained by the function {config.training['_target_']}, which "
            "alone knows what it saved.\nExpected a run of a Trainer."
        )
    return build("training", config.training).load_model(opened)


def _fill_in_facts(run: Run) -> None:
    """Fills in what the model's config left to the data."""
    file = run.dir.path / "data.json"
    facts = json.loads(file.read_text()) if file.exists() else {}
    for name, value in (run.config.get("model") or {}).items():
        if value is None and name in facts:
            OmegaConf.update(run.config, f"model.{name}", facts[name])
