"""Uploads trained models in MLflow's format, for ``mlflow models serve``, and registers versions.

A model's files are uploaded from the run folder as they are: no framework is imported, and
nothing is pickled. :mod:`dlsweep.results.serving` loads a model for serving. Uploaded models are
found by their tags, so a model that is uploaded again after a crash exists once.
"""

from __future__ import annotations

import json
import platform
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from omegaconf import OmegaConf

from dlsweep.errors import ConfigError
from dlsweep.folders import origin
from dlsweep.folders.rundir import Result, RunDir
from dlsweep.trackers.checkpoints import digest_of, kept_checkpoint
from dlsweep.trackers.files import home

if TYPE_CHECKING:
    import mlflow.entities
    from mlflow.entities import LoggedModel
    from mlflow.models import Model, ModelSignature
    from mlflow.tracking import MlflowClient

#: The values of the option ``log_model``.
LogModel = Literal["best", "all", "none"]
#: The alias of the best version.
_BEST = "best"
#: The files from which MLflow makes an environment; ``--env-manager`` chooses one.
_PYTHON_ENV, _CONDA_ENV = "python_env.yaml", "conda.yaml"


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
            _send(client, run_id, run)

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
        model_id = _send(client, run_id, run) if _has_model(run) else None
        if self._name and model_id and value is not None:
            _register(client, self._name, model_id, run, value)
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
        checkpoint = kept_checkpoint(run, "best")
        assert checkpoint
        owner = client.get_run(run_id)
        model = _find(client, owner.info.experiment_id, _tags(run, checkpoint))
        if model is None or model.status != "READY" or not _is_output(owner, model.model_id):
            return ["its model is missing"]
        found = [
            f"its model has no {name}"
            for name in _missing_files(client, model.model_id, _files(run, checkpoint))
        ]
        if best and self._name and _objective(run) and not _version(client, self._name, model):
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
    return (run.path / "data.json").exists() and kept_checkpoint(run, "best") is not None


def _tags(run: RunDir, checkpoint: Path) -> dict[str, str]:
    return {"dlsweep.run_id": run.info().id, "dlsweep.digest": digest_of(checkpoint)}


def _files(run: RunDir, checkpoint: Path) -> dict[str, list[Path]]:
    """Returns the files of each folder of the model: a small copy of the run folder."""
    return {
        "data": [run.info_file, run.path / "data.json"],
        "data/.hydra": [run.config_file],
        f"data/checkpoints/{checkpoint.name}": sorted(checkpoint.iterdir()),
    }


def _send(client: MlflowClient, run_id: str, run: RunDir) -> str:
    """Uploads the model of a run's best checkpoint, unless the same one is there.

    Returns:
        MLflow's id of the model.
    """
    from mlflow.entities import LoggedModelOutput

    checkpoint = kept_checkpoint(run, "best")
    assert checkpoint
    owner = client.get_run(run_id)
    experiment = owner.info.experiment_id
    tags = _tags(run, checkpoint)
    model = _find(client, experiment, tags)
    if model is None:
        name = re.sub(r"[/:.%\"']", "_", f"{run.info().study}-{run.info().name}")
        model = client.create_logged_model(experiment, name, run_id, tags)
    files = _files(run, checkpoint)
    if model.status != "READY" or any(_missing_files(client, model.model_id, files)):
        _upload(client, model, run, files)
        client.finalize_logged_model(model.model_id, "READY")
    if not _is_output(owner, model.model_id):  # MLflow raises if it is one already
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    return str(model.model_id)


def _missing_files(
    client: MlflowClient, model_id: str, files: dict[str, list[Path]]
) -> Iterator[str]:
    """Returns the names of a model's files that are missing or have another size."""
    for folder, paths in files.items():
        kept = client.list_logged_model_artifacts(model_id, folder)
        sizes = {one.path: one.file_size for one in kept}
        for path in paths:
            if sizes.get(f"{folder}/{path.name}") != path.stat().st_size:
                yield f"{folder}/{path.name}"


def _register(client: MlflowClient, name: str, model_id: str, run: RunDir, value: float) -> None:
    """Creates a version of the registered model, once, and sets the alias to the best version.

    Only versions with the same objective are compared.

    Args:
        client: MLflow's client.
        name: The name of the registered model.
        model_id: The id of the model.
        run: The run folder.
        value: The value of the run's first objective.
    """
    info = run.info()
    metric, direction = info.objective[0], info.directions[0]
    measure = {"dlsweep.objective": metric, "dlsweep.direction": direction}
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    versions = list(client.search_model_versions(f"name = '{name}'"))
    model = client.get_logged_model(model_id)
    if not _version(client, name, model):
        tags = {**measure, "dlsweep.value": repr(value), "dlsweep.model_id": model_id}
        about = f"{info.study}/{info.name}, {metric} = {value:.6g}"
        source = model.artifact_location
        new = client.create_model_version(
            name, source, model.source_run_id, tags, description=about, model_id=model_id
        )
        versions.append(new)
    comparable = [one for one in versions if measure.items() <= one.tags.items()]
    pick = max if direction == "maximize" else min
    best = pick(comparable, key=lambda one: float(one.tags["dlsweep.value"]))
    client.set_registered_model_alias(name, _BEST, best.version)


def _version(client: MlflowClient, name: str, model: LoggedModel) -> bool:
    """Whether the registered model has a version of this model."""
    versions = client.search_model_versions(f"name = '{name}'")
    return any(one.tags.get("dlsweep.model_id") == model.model_id for one in versions)


def _find(client: MlflowClient, experiment: str, tags: dict[str, str]) -> LoggedModel | None:
    wanted = " AND ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
    found = client.search_logged_models([experiment], wanted, max_results=1)
    return found[0] if found else None


def _is_output(run: mlflow.entities.Run, model_id: str) -> bool:
    """Whether a model is an output of a run."""
    outputs = run.outputs.model_outputs if run.outputs else []
    return any(one.model_id == model_id for one in outputs)


def _upload(
    client: MlflowClient, model: LoggedModel, run: RunDir, files: dict[str, list[Path]]
) -> None:
    """Uploads a model's files; the file that MLflow reads first is last."""
    model_id = model.model_id
    for place, paths in files.items():
        for path in paths:
            client.log_model_artifact(model_id, str(path), place)
    with tempfile.TemporaryDirectory() as folder:
        _write_environment(Path(folder), run)
        client.log_model_artifacts(model_id, folder)
        described = _described(model, run)
        described.model_size_bytes = sum(
            path.stat().st_size for paths in files.values() for path in paths
        )
        described.save(f"{folder}/MLmodel")
        client.log_model_artifact(model_id, f"{folder}/MLmodel")


def _described(model: LoggedModel, run: RunDir) -> Model:
    """Returns the ``MLmodel`` description: how to load the model, and its signature."""
    from mlflow.models import Model
    from mlflow.pyfunc import add_to_model

    described = Model(
        artifact_path=model.artifact_location,
        run_id=model.source_run_id,
        signature=_signature(run),
        model_uuid=model.model_id,
        model_id=model.model_id,
    )
    environments = {"python_env": _PYTHON_ENV, "conda_env": _CONDA_ENV}  # MLflow needs both
    add_to_model(described, "dlsweep.results.serving", data="data", **environments)  # type: ignore[no-untyped-call]
    return described


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


def _write_environment(folder: Path, run: RunDir) -> None:
    """Writes the Python version and the packages for serving, as the run had them."""
    found = origin.read(home(run))
    versions = found.get("packages", {})
    requirements = [
        # No package index has a local version such as +cpu.
        f"{name}=={versions[name].partition('+')[0]}" if name in versions else name
        for name in _packages(run, versions)
    ]
    (folder / "requirements.txt").write_text("\n".join(requirements) + "\n")
    python = found.get("python", platform.python_version())
    environment = {"python": python, "dependencies": ["-r requirements.txt"]}
    (folder / _PYTHON_ENV).write_text(OmegaConf.to_yaml(environment))
    packages = [f"python={python}", "pip", {"pip": requirements}]
    conda = {"name": "mlflow-env", "channels": ["conda-forge"], "dependencies": packages}
    (folder / _CONDA_ENV).write_text(OmegaConf.to_yaml(conda))


def _packages(run: RunDir, installed: dict[str, Any]) -> list[str]:
    """Returns dlsweep, MLflow, and the packages that the run's framework preloads."""
    config = OmegaConf.create(run.config())
    modules = OmegaConf.select(config, "framework.preload") or []
    names = {module.partition(".")[0] for module in modules}
    names |= {"dlsweep", "mlflow"}
    return sorted(f"{name}-cpu" if f"{name}-cpu" in installed else name for name in names)
