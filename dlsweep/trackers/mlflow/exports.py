"""Registers exported models in MLflow, without importing what runs them.

Their files are uploaded as they are. The ``MLmodel`` file describes them in MLflow's own flavors
where one loads them; of other formats it names the file.
"""

from __future__ import annotations

import platform
from calendar import timegm
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import distributions
from time import strptime
from typing import TYPE_CHECKING, Any

from dlsweep.folders.rundir import RunDir
from dlsweep.runtimes.base import DEFAULT
from dlsweep.trackers.exports import ExportedVersion
from dlsweep.trackers.mlflow.entities import to_metrics
from dlsweep.trackers.mlflow.logged import ENVIRONMENTS, Content, pinned, register, send

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel
    from mlflow.models import Model, ModelSignature
    from mlflow.tracking import MlflowClient


@dataclass(frozen=True)
class _Flavor:
    """A flavor of MLflow that loads exported models of one format.

    Attributes:
        name: Its name.
        config: Its part of the ``MLmodel`` file.
        packages: The packages that run the model.
        data: What the flavor is given to load; None for the whole folder.
        names_input: Whether a single input is given by its name, too.
        takes_several: Whether it takes several inputs.
    """

    name: str
    config: Mapping[str, Any]
    packages: tuple[str, ...]
    data: str | None = None
    names_input: bool = False
    takes_several: bool = True


_FLAVORS = {
    "onnx": _Flavor(
        name="onnx",
        config={
            "data": "model.onnx",
            "providers": ["CUDAExecutionProvider", "CPUExecutionProvider"],
        },
        packages=("onnx", "onnxruntime"),
        data="model.onnx",
        names_input=True,
    ),
    "savedmodel": _Flavor(
        name="tensorflow",
        config={
            "saved_model_dir": ".",
            "model_type": "tf1-estimator",  # MLflow's word for a SavedModel with signatures
            "meta_graph_tags": ["serve"],
            "signature_def_key": DEFAULT,  # MLflow's server would answer the labels in base64
        },
        packages=("tensorflow",),
        names_input=True,
    ),
    "keras": _Flavor(
        name="keras",
        config={"data": "model", "save_exported_model": False},  # MLflow adds .keras
        packages=("keras", "tensorflow"),
    ),
    "torch": _Flavor(
        name="pytorch",
        config={"model_data": "."},
        packages=("torch",),
        data=".",
        takes_several=False,
    ),
}


def register_export(
    client: MlflowClient,
    run_id: str,
    run: RunDir,
    export: ExportedVersion,
    name: str,
    alias: str | None,
) -> str:
    """Makes an exported model an output of its trial's run, and a version of a registered model.

    Args:
        client: MLflow's client.
        run_id: MLflow's id of the trial's run.
        run: The run folder.
        export: The exported model.
        name: The name of the registered model.
        alias: The alias that names this version from now on, if any.

    Returns:
        The address of the version.
    """
    content = _content(run, export)
    model = send(client, run_id, content)
    _log_figures(client, run_id, model, export)
    tags = {**content.identity, **content.tags}
    version = register(client, name, model, tags, export.about(run)).version
    if alias is None:
        return f"models:/{name}/{version}"
    client.set_registered_model_alias(name, alias, version)
    return f"models:/{name}@{alias}, version {version}"


def _content(run: RunDir, export: ExportedVersion) -> Content:
    flavor = _flavor_of(export)
    versions = {one.name: one.version for one in distributions()}
    shown = ("format", "quantization"), ("runtime", "size_bytes", "examples", "tolerance")
    params = {
        **{name: export.record[name] for name in shown[0]},
        **{name: export.parity[name] for name in shown[1]},
    }
    return Content(
        name=f"{export.record['name']}-{export.form.name}-{export.folder.name}",
        identity=export.identity(run),
        files=export.files,
        describe=partial(_describe, export),
        python=platform.python_version(),
        requirements=pinned(["mlflow", *flavor.packages], versions) if flavor else (),
        tags=export.tags(run),
        params={name: str(value) for name, value in params.items() if value is not None},
    )


def _flavor_of(export: ExportedVersion) -> _Flavor | None:
    flavor = _FLAVORS.get(export.form.name)
    if flavor and len(export.record["inputs"]) > 1 and not flavor.takes_several:
        return None
    return flavor


def _describe(export: ExportedVersion, described: Model) -> None:
    """Adds to the ``MLmodel`` description the flavor, or else the format and its file."""
    from mlflow.pyfunc import add_to_model

    flavor = _flavor_of(export)
    described.signature = _signature(export, flavor is not None and flavor.names_input)
    if flavor is None:
        described.add_flavor(export.form.name, data=export.form.file)
        return
    described.add_flavor(flavor.name, **flavor.config)
    add_to_model(described, f"mlflow.{flavor.name}", data=flavor.data, **ENVIRONMENTS)  # type: ignore[no-untyped-call]


def _signature(export: ExportedVersion, names_input: bool) -> ModelSignature:
    """Returns the model's inputs.

    Args:
        export: The exported model.
        names_input: Whether a single input has a name.
    """
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    inputs = export.record["inputs"]
    named = names_input or len(inputs) > 1
    return ModelSignature(
        Schema(
            [
                TensorSpec(
                    np.dtype(object if one["dtype"] == "string" else one["dtype"]),
                    (-1, *one["shape"]),
                    one["name"] if named else None,
                )
                for one in inputs
            ]
        )
    )


def _log_figures(
    client: MlflowClient, run_id: str, model: LoggedModel, export: ExportedVersion
) -> None:
    """Logs how the model compares with the trained one, as metrics of the model."""
    created = timegm(strptime(export.record["created"], "%Y-%m-%dT%H:%M:%SZ"))
    points = [(f"parity/{name}", value, created, 0) for name, value in export.figures().items()]
    if not {name for name, *_ in points} <= {one.key for one in model.metrics or ()}:
        client.log_batch(run_id, metrics=to_metrics(points, model.model_id))
