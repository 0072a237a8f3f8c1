"""Creates MLflow's logged models and their registered versions, each once.

Logged models are found by their tags, so one that is sent again after a crash exists once.
"""

from __future__ import annotations

import posixpath
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import OmegaConf

from dlsweep.trackers.mlflow.sharing import share

if TYPE_CHECKING:
    import mlflow.entities
    from mlflow.entities import LoggedModel
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.models import Model
    from mlflow.tracking import MlflowClient

#: The files from which MLflow makes an environment; ``--env-manager`` chooses one.
_PYTHON_ENV, _CONDA_ENV = "python_env.yaml", "conda.yaml"
#: Arguments of ``mlflow.pyfunc.add_to_model`` that name these files; MLflow needs both.
ENVIRONMENTS = {"python_env": _PYTHON_ENV, "conda_env": _CONDA_ENV}
#: The tag of a version with the id of its logged model.
_MODEL_ID = "dlsweep.model_id"

#: The files of a model by their folder in it; that of the model itself is an empty string.
Files = Mapping[str, Sequence[Path]]


@dataclass(frozen=True)
class Content:
    """What a logged model consists of.

    Attributes:
        name: Its name in MLflow's lists.
        identity: The tags by which it is found again.
        files: Its files.
        shared: Files of it that nobody changes, so that a local store may have them as links.
        texts: Files of it that are written for it, by folder and name.
        describe: Adds to the ``MLmodel`` description how to load the model, and its signature.
        python: The Python version for serving it.
        requirements: The packages for serving it; empty if MLflow cannot serve it.
        tags: More tags.
        params: Its parameters.
    """

    name: str
    identity: Mapping[str, str]
    files: Files
    describe: Callable[[Model], None]
    python: str
    requirements: Sequence[str]
    shared: Files = field(default_factory=dict)
    texts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)

    def sizes(self) -> dict[str, int]:
        """Returns the size in bytes of each file, by its path in the model."""
        sizes = {
            posixpath.join(folder, path.name): path.stat().st_size
            for folder, paths in [*self.files.items(), *self.shared.items()]
            for path in paths
        }
        for folder, texts in self.texts.items():
            for name, text in texts.items():
                sizes[posixpath.join(folder, name)] = len(text.encode())
        return sizes


def send(client: MlflowClient, run_id: str, content: Content) -> LoggedModel:
    """Uploads a model as an output of a run, unless the same one is there.

    Args:
        client: MLflow's client.
        run_id: MLflow's id of the run.
        content: What the model consists of.
    """
    from mlflow.entities import LoggedModelOutput

    owner = client.get_run(run_id)
    experiment = owner.info.experiment_id
    model = find(client, experiment, content.identity)
    if model is None:
        name = re.sub(r"[/:.%\"']", "_", content.name)
        tags = {**content.identity, **content.tags}
        model = client.create_logged_model(experiment, name, run_id, tags, dict(content.params))
    if model.status != "READY" or any(missing_files(client, model.model_id, content)):
        _upload(client, model, content)
        client.finalize_logged_model(model.model_id, "READY")
    if not is_output(owner, model.model_id):  # MLflow raises if it is one already
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    return model


def find(client: MlflowClient, experiment: str, tags: Mapping[str, str]) -> LoggedModel | None:
    """Returns the logged model with these tags, if there is one."""
    wanted = " AND ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
    found = client.search_logged_models([experiment], wanted, max_results=1)
    return found[0] if found else None


def is_output(run: mlflow.entities.Run, model_id: str) -> bool:
    """Whether a model is an output of a run."""
    outputs = run.outputs.model_outputs if run.outputs else []
    return any(one.model_id == model_id for one in outputs)


def missing_files(client: MlflowClient, model_id: str, content: Content) -> Iterator[str]:
    """Yields the names of a model's files that are missing or have another size."""
    found: dict[str, int | None] = {}
    for folder in dict.fromkeys([*content.files, *content.shared, *content.texts]):
        kept = client.list_logged_model_artifacts(model_id, folder or None)
        found |= {one.path: one.file_size for one in kept}
    yield from (name for name, size in content.sizes().items() if found.get(name) != size)


def version_of(client: MlflowClient, name: str, model: LoggedModel) -> ModelVersion | None:
    """Returns the version of a registered model that a logged model is, if it is one."""
    versions = client.search_model_versions(f"name = '{name}'")
    return next((one for one in versions if one.tags.get(_MODEL_ID) == model.model_id), None)


def register(
    client: MlflowClient, name: str, model: LoggedModel, tags: Mapping[str, str], about: str
) -> ModelVersion:
    """Makes a logged model a version of a registered model, once; returns the version.

    Args:
        client: MLflow's client.
        name: The name of the registered model; it is created if needed.
        model: The logged model.
        tags: The tags of the version.
        about: The description of the version.
    """
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    return version_of(client, name, model) or client.create_model_version(
        name,
        model.artifact_location,
        model.source_run_id,
        {**tags, _MODEL_ID: model.model_id},
        description=about,
        model_id=model.model_id,
    )


def _upload(client: MlflowClient, model: LoggedModel, content: Content) -> None:
    """Uploads a model's files; the file that MLflow reads first is last."""
    from mlflow.models import Model

    model_id = model.model_id
    for place, paths in content.files.items():
        for path in paths:
            client.log_model_artifact(model_id, str(path), place or None)
    for place, paths in content.shared.items():
        upload = partial(client.log_model_artifact, model_id, artifact_path=place)
        share(paths, model.artifact_location, place, upload)
    described = Model(
        artifact_path=model.artifact_location,
        run_id=model.source_run_id,
        model_uuid=model_id,
        model_id=model_id,
    )
    content.describe(described)
    described.model_size_bytes = sum(content.sizes().values())
    with tempfile.TemporaryDirectory() as folder:
        for place, texts in content.texts.items():
            for name, text in texts.items():
                (Path(folder) / name).write_text(text)
                client.log_model_artifact(model_id, f"{folder}/{name}", place)
                (Path(folder) / name).unlink()
        if content.requirements:
            _write_environment(Path(folder), content)
            client.log_model_artifacts(model_id, folder)
        described.save(f"{folder}/MLmodel")
        client.log_model_artifact(model_id, f"{folder}/MLmodel")


def _write_environment(folder: Path, content: Content) -> None:
    """Writes the Python version and the packages for serving."""
    packages = list(content.requirements)
    (folder / "requirements.txt").write_text("\n".join(packages) + "\n")
    environment = {"python": content.python, "dependencies": ["-r requirements.txt"]}
    (folder / _PYTHON_ENV).write_text(OmegaConf.to_yaml(environment))
    dependencies = [f"python={content.python}", "pip", {"pip": packages}]
    conda = {"name": "mlflow-env", "channels": ["conda-forge"], "dependencies": dependencies}
    (folder / _CONDA_ENV).write_text(OmegaConf.to_yaml(conda))


def pinned(names: Sequence[str], versions: Mapping[str, str]) -> list[str]:
    """Returns requirements: packages with the versions that are known.

    Args:
        names: The packages; a package whose CPU build has another name is found by that.
        versions: Versions by package.
    """
    found = sorted(f"{name}-cpu" if f"{name}-cpu" in versions else name for name in set(names))
    return [
        # No package index has a local version such as +cpu.
        f"{name}=={versions[name].partition('+')[0]}" if name in versions else name
        for name in found
    ]
