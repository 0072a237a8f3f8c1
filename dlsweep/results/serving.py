"""A run's trained model behind MLflow's interface for serving, ``python_function``.

MLflow imports this module where a model is loaded or served, and hands it the files that
:mod:`dlsweep.trackers.mlflow.models` has uploaded: a run folder with the best checkpoint alone.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from dlsweep.data.base import Array, each, normalised
from dlsweep.errors import ConfigError
from dlsweep.results.loading import open_trained
from dlsweep.trial.signature import locate


class ServedModel:
    """What MLflow asks for predictions.

    Args:
        path: The run folder.

    Raises:
        ConfigError: If code that the run's config names cannot be imported here.
        CheckpointError: If there is no checkpoint, or none that fits.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._trainer, run = open_trained(path)
            if target := OmegaConf.select(run.config, "model._target_"):
                locate("model", target)
        except ConfigError as error:
            raise ConfigError(
                f"{error}\nThe model is made of that code: serve it where it can be imported, from "
                "the project's folder or with  PYTHONPATH=/that/folder"
            ) from None
        self._facts = json.loads((path / "data.json").read_text())
        self._model = self._trainer.load_model(run)

    def predict(self, inputs: Any, params: object = None) -> Any:  # noqa: ARG002 - MLflow's
        """The model's outputs.

        Args:
            inputs: An array of shape [examples, ...], or such arrays by name, as the run's data
                has them: they are normalised here. Where the data was not in memory, so that the
                run has noted no mean and deviation, as its loader yields them.
            params: Nothing that is taken.

        Returns:
            The outputs as an array, or as several by name.
        """
        return self._trainer.predict(self._model, each(inputs, self._prepared))

    def _prepared(self, values: Any) -> Array:
        array = np.asarray(values)
        if "mean" in self._facts:
            return normalised(array, self._facts["mean"], self._facts["std"])
        return array.astype(np.float32) if array.dtype.kind == "f" else array


def _load_pyfunc(path: str) -> ServedModel:
    return ServedModel(Path(path))
