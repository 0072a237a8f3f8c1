"""Uploads trained models in MLflow's format, for ``mlflow models serve``, and registers versions.

A model's files are uploaded from the run folder as they are: no framework is imported, and
nothing is pickled. :mod:`dlsweep.results.serving` loads a model for serving.
"""

from __future__ import annotations

import json
import platform
import re
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from omegaconf import OmegaConf

from dlsweep.errors import ConfigError
from dlsweep.folders import origin
from dlsweep.folders.rundir import Result, RunDir
from dlsweep.run.manifest import MANIFEST
from dlsweep.trackers.checkpoints import trained_weights
from dlsweep.trackers.files import home
from dlsweep.trackers.mlflow.logged import (
    ENVIRONMENTS,
    Content,
    find,
    is_output,
    missing_files,
    pinned,
    register,
    send,
    version_of,
)

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel
    from mlflow.models import Model, ModelSignature
    from mlflow.tracking import MlflowClient

#: The values of the option ``log_model``.
LogModel = Literal["best", "all", "none"]
#: The alias of the best version.
_BEST = "best"


class Models:
    """Uploads and registers trained models.

    Args:
        log_model: Which models to upload: ``best``, ``all`` or ``none``.
        registered_model_name: The registered model of which the best become versions, if any.

    Raises:
        ConfigError: If an option is not valid.
    """

    def __init__(self, log_model: LogModel, registered_model_name: str | None) -> None:
        _check(log_model, registered_model_name)
        self._wanted = log_model
        self._name = registered_model_name

    def send(self, client: MlflowClient, run_id: str, run: RunDir, result: Result) -> None:
        """Uploads the model of a single run, or of a trial if ``log_model=all``.

        Args:
            client: MLflow's client.
            run_id: MLflow's id of the run.
            run: The run folder.
            result: The run's result.
        """
        if self._is_best(run):
            self.send_best(client, run_id, run, result.metrics.get(_objective(run)))
        elif self._wanted == "all" and _has_model(run):
            send(client, run_id, _content(run))

    def send_best(
        self, client: MlflowClient, run_id: str, run: RunDir, value: float | None
    ) -> None:
        """Uploads the model of the best run, and registers it.

        Args:
            client: MLflow's client.
            run_id: MLflow's id of the run.
            run: The run folder.
            value: The value of its first objective.
        """
        if self._wanted == "none":
            return
        model = send(client, run_id, _content(run)) if _has_model(run) else None
        if self._name and model and value is not None:
            _register(client, self._name, model, run, value)
        elif self._name:
            print(f"{run.path} has no model to register as {self._name}.", file=sys.stderr)

    def missing(self, client: MlflowClient, run_id: str, run: RunDir, is_best: bool) -> list[str]:
        """Returns a sentence for each missing part of a model.

        Args:
            client: MLflow's client.
            run_id: MLflow's id of the run.
            run: The folder of a completed run.
            is_best: Whether it is the best of a study.
        """
        best = is_best or self._is_best(run)
        if self._wanted == "none" or not (best or self._wanted == "all") or not _has_model(run):
            return []
        content, owner = _content(run), client.get_run(run_id)
        model = find(client, owner.info.experiment_id, content.identity)
        if model is None or model.status != "READY" or not is_output(owner, model.model_id):
            return ["its model is missing"]
        found = [
            f"its model has no {name}" for name in missing_files(client, model.model_id, content)
        ]
        if best and self._name and _objective(run) and not version_of(client, self._name, model):
            found.append(f"its model is no version of {self._name}")
        return found

    def _is_best(self, run: RunDir) -> bool:
        """Whether a run counts as best by itself: a single run."""
        return run.info().number is None


def _check(log_model: object, registered_model_name: object) -> None:
    if log_model not in get_args(LogModel):
        raise ConfigError(
            f"tracking.mlflow.log_model: Received {log_model!r}. Expected best, all or none."
        )
    name = registered_model_name
    if name is None:
        return
    if not isinstance(name, str) or not re.fullmatch(r"(?!\.\.?$)[^/:'\"]{1,256}", name.strip()):
        raise ConfigError(
            f"tracking.mlflow.registered_model_name: Received {name!r}. Expected a name of up to "
            "256 characters without / : ' and \", such as digits."
        )
    if log_model == "none":
        raise ConfigError(
            f"tracking.mlflow.registered_model_name: Received {name!r} with log_model=none. Only "
            "a model that is logged can be registered.\nType  tracking.mlflow.log_model=best"
        )


def _objective(run: RunDir) -> str:
    """Returns the first objective, if there is one."""
    return next(iter(run.info().objective), "")


def _has_model(run: RunDir) -> bool:
    """Whether a run's trained model can be built from its folder."""
    return (run.path / "data.json").exists() and trained_weights(run) is not None


def _files(run: RunDir) -> dict[str, list[Path]]:
    """Returns the small files of each folder of the model, which is a copy of the run folder."""
    return {"data": [run.info_file, run.path / "data.json"], "data/.hydra": [run.config_file]}


def _content(run: RunDir) -> Content:
    """Returns what the model of a run's best checkpoint consists of."""
    kept = trained_weights(run)
    assert kept
    place = f"data/checkpoints/{kept.path.name}"
    info, found = run.info(), origin.read(home(run))
    return Content(
        name=f"{info.study}-{info.name}",
        identity={"dlsweep.run_id": info.id, "dlsweep.digest": kept.digest},
        files=_files(run),
        shared={place: kept.files},
        texts={place: {MANIFEST: kept.manifest}},
        describe=partial(_describe, run),
        python=found.get("python", platform.python_version()),
        requirements=pinned(_packages(run), found.get("packages", {})),
    )


def _register(
    client: MlflowClient, name: str, model: LoggedModel, run: RunDir, value: float
) -> None:
    """Creates a version of the registered model, once, and sets the alias to the best version.

    Only versions with the same objective are compared.

    Args:
        client: MLflow's client.
        name: The name of the registered model.
        model: The logged model.
        run: The run folder.
        value: The value of the run's first objective.
    """
    info = run.info()
    metric, direction = info.objective[0], info.directions[0]
    measure = {"dlsweep.objective": metric, "dlsweep.direction": direction}
    about = f"{info.study}/{info.name}, {metric} = {value:.6g}"
    register(client, name, model, {**measure, "dlsweep.value": repr(value)}, about)
    versions = client.search_model_versions(f"name = '{name}'")
    comparable = [one for one in versions if measure.items() <= one.tags.items()]
    pick = max if direction == "maximize" else min
    best = pick(comparable, key=lambda one: float(one.tags["dlsweep.value"]))
    client.set_registered_model_alias(name, _BEST, best.version)


def _describe(run: RunDir, described: Model) -> None:
    """Adds to the ``MLmodel`` description how to load the model, and its signature."""
    from mlflow.pyfunc import add_to_model

    described.signature = _signature(run)
    add_to_model(described, "dlsweep.results.serving", data="data", **ENVIRONMENTS)  # type: ignore[no-untyped-call]


def _signature(run: RunDir) -> ModelSignature | None:
    """Returns the model's inputs, if the run's data was in memory."""
    facts = json.loads((run.path / "data.json").read_text())
    if "input_dtype" not in facts:
        return None
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    def spec(shape: list[int], dtype: str, name: str | None = None) -> TensorSpec:
        return TensorSpec(np.dtype(dtype), (-1, *shape), name)

    shape, dtype = facts["input_shape"], facts["input_dtype"]
    if not isinstance(shape, dict):
        return ModelSignature(Schema([spec(shape, dtype)]))
    return ModelSignature(Schema([spec(shape[name], dtype[name], name) for name in shape]))


def _packages(run: RunDir) -> list[str]:
    """Returns dlsweep, MLflow, and the packages that the run's framework preloads."""
    config = OmegaConf.create(run.config())
    modules = OmegaConf.select(config, "framework.preload") or []
    return ["dlsweep", "mlflow", *(module.partition(".")[0] for module in modules)]
