"""Serves a run's trained model through MLflow's ``python_function`` interface.

MLflow imports this module to load or serve a model, and passes it the files that
:mod:`dlsweep.trackers.mlflow.models` has uploaded: a run folder with only the best checkpoint.
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
    """The model that MLflow calls for predictions.

    Args:
        path: The run folder.

    Raises:
        ConfigError: If code in the run's config cannot be imported here.
        CheckpointError: If there is no checkpoint, or none that fits.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._trainer, run = open_trained(path)
            if target := OmegaConf.select(run.config, "model._target_"):
                locate("model", target)
        except ConfigError as error:
            raise ConfigError(
                f"{error}\nThe model needs that code: serve it where it can be imported, from "
                "the project's folder or with  PYTHONPATH=/that/folder"
            ) from None
        self._facts = json.loads((path / "data.json").read_text())
        self._model = self._trainer.load_model(run)

    def predict(self, inputs: Any, params: object = None) -> Any:  # noqa: ARG002 - MLflow's
        """Returns the model's outputs.

        Args:
            inputs: An array of shape [examples, ...], or such arrays by name, not normalized; this
                method normalizes them. If the run's data was not in memory, there is no mean and
                deviation; then pass inputs as the data's loader yields them.
            params: Ignored.

        Returns:
            The outputs: an array, or arrays by name.
        """
        return self._trainer.predict(self._model, each(inputs, self._prepared))

    def _prepared(self, values: Any) -> Array:
        array = np.asarray(values)
        if "mean" in self._facts:
            return normalised(array, self._facts["mean"], self._facts["std"])
        return array.astype(np.float32) if array.dtype.kind == "f" else array


def _load_pyfunc(path: str) -> ServedModel:
    return ServedModel(Path(path))
