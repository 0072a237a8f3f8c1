"""Describes exported models: the files beside the model."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import dlsweep
from dlsweep.data.schema import schema_of
from dlsweep.export.parity import Parity, plain
from dlsweep.run.run import Run
from dlsweep.runtimes.formats import Format
from dlsweep.trainers.exporting import ExportSpec


def describe(
    run: Run, record: Mapping[str, Any], form: Format, spec: ExportSpec, name: str
) -> dict[str, str]:
    """Returns the files that describe an exported model; they name no path and no host.

    Args:
        run: The run.
        record: The record of the data that the run has stored.
        form: The format.
        spec: What the exported model takes and returns.
        name: The name of the export.

    Returns:
        ``export.json`` and, for a classifier, ``labels.txt`` with a class name in each line.
    """
    info = run.dir.info()
    described = {
        "name": name,
        "format": form.name,
        "quantization": spec.quantization,
        "inputs": _inputs(spec),
        "labels": list(spec.labels),
        "study": info.study,
        "run": {"id": info.id, "name": info.name, "trial": info.number},
        "data": {key: record[key] for key in ("name", "sha256") if key in record},
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "dlsweep": dlsweep.__version__,
    }
    files = {"export.json": json.dumps(described, indent=1)}
    if spec.labels:
        files["labels.txt"] = "".join(f"{label}\n" for label in spec.labels)
    return files


def _inputs(spec: ExportSpec) -> list[dict[str, Any]]:
    if spec.has_words:
        columns = schema_of({}, spec.columns)
        return [
            {**one, "name": argument, "column": one["name"]}
            for argument, one in zip(spec.arguments, columns, strict=True)
        ]
    inputs = schema_of(spec.examples)
    if spec.columns:
        inputs[0]["columns"] = [name for column in spec.columns for name in column.names]
    return inputs


def describe_parity(
    parity: Parity,
    form: Format,
    folder: Path,
    before: Mapping[int, float],
    after: Mapping[int, float],
) -> dict[str, Any]:
    """Returns the content of ``parity.json``.

    Args:
        parity: How the exported model compares with the trained one.
        form: The format.
        folder: The folder of the exported model.
        before: The trained model's latency in milliseconds for each batch size.
        after: The exported model's.
    """
    return {
        **plain(parity),
        "size_bytes": sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()),
        "latency_ms": {
            str(batch): {"trained": before[batch], "exported": after[batch]} for batch in before
        },
        "runtime": f"{form.packages[0]} {_version(form.packages[0])}",
    }


def _version(package: str) -> str:
    names = {"tensorflow": ("tensorflow", "tensorflow-cpu")}
    for name in names.get(package, (package.replace("_", "-"),)):
        with contextlib.suppress(PackageNotFoundError):
            return version(name)
    return "of an unknown version"
