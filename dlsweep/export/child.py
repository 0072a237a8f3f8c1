"""Writes and runs exported models in processes of their own.

A model is written where its framework runs on the backend that the format needs. An exported model
is run where nothing but its runtime is imported, as it will be in use.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from dlsweep.data.base import Array
from dlsweep.data.schema import Column
from dlsweep.errors import DlsweepError, ExportError
from dlsweep.results.loading import open_trained
from dlsweep.runtimes.base import CLASSIFY, DEFAULT, ExportedModel
from dlsweep.runtimes.formats import FORMATS
from dlsweep.trainers.epoch_trainer import EpochTrainer
from dlsweep.trainers.exporting import ExportSpec

#: The batch sizes for which the latency is measured.
BATCHES = (1, 256)
#: The exit code of a child whose last line is an error for the user.
_REFUSED = 3
#: How long to measure a latency, at most: in seconds and in calls.
_SECONDS, _CALLS = 0.5, 100


def write_apart(
    run: Path, form: str, spec: ExportSpec, path: Path, environment: Mapping[str, str]
) -> None:
    """Writes a run's model in another process.

    Args:
        run: The run folder.
        form: The name of the format.
        spec: What the exported model takes and returns.
        path: The new file.
        environment: The environment variables that the process needs.

    Raises:
        ExportError: If the model cannot be exported.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "spec.npz"
        _save_spec(spec, file)
        _start("write", [run, form, file, path], environment)


def run_apart(
    form: str, folder: Path, inputs: Mapping[str, Array]
) -> tuple[dict[str, Array], dict[int, float]]:
    """Runs an exported model in another process.

    Args:
        form: The name of the format.
        folder: The version's folder.
        inputs: The inputs by name.

    Returns:
        The outputs by name, and the latency in milliseconds for each batch size.

    Raises:
        ExportError: If it cannot be loaded or run.
    """
    with tempfile.TemporaryDirectory() as aside:
        given, found = Path(aside) / "inputs.npz", Path(aside) / "outputs.npz"
        np.savez(given, allow_pickle=False, **inputs)
        _start("run", [form, folder, given, found], {})
        with np.load(found) as arrays:
            outputs = {name: arrays[name] for name in arrays.files}
    return outputs, dict(zip(BATCHES, outputs.pop("latency").tolist(), strict=True))


def latencies(call: Callable[[int], object]) -> list[float]:
    """Returns the median milliseconds of a call, for each batch size."""
    found = []
    for size in BATCHES:
        call(size)
        times: list[float] = []
        end = time.perf_counter() + _SECONDS
        while not times or (len(times) < _CALLS and time.perf_counter() < end):
            start = time.perf_counter()
            call(size)
            times.append(1000 * (time.perf_counter() - start))
        found.append(median(times))
    return found


def first_rows(inputs: Mapping[str, Array], count: int) -> dict[str, Array]:
    """Returns the first examples; from the start again if there are fewer."""
    rows = np.arange(count) % len(next(iter(inputs.values())))
    return {name: array[rows] for name, array in inputs.items()}


def _start(verb: str, arguments: list[Any], environment: Mapping[str, str]) -> None:
    command = [sys.executable, "-m", __name__, verb, *map(str, arguments)]
    done = subprocess.run(  # noqa: S603 - this module itself
        command,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode == _REFUSED:
        raise ExportError(done.stderr[done.stderr.rindex("\0") + 1 :].strip())
    if done.returncode:
        raise ExportError(
            f"The process that should {verb} the model ended with the code {done.returncode}. The "
            "end of its output:\n" + "\n".join(done.stderr.strip().splitlines()[-5:])
        )


def _write(run: str, form: str, spec: str, path: str) -> None:
    trainer, opened = open_trained(run)
    if isinstance(trainer, EpochTrainer):
        trainer.precision = "fp32"
    trainer.export_model(trainer.load_model(opened), form, _load_spec(Path(spec)), Path(path))


def _run(form: str, folder: str, given: str, found: str) -> None:
    model = FORMATS[form].load(Path(folder))
    signature = CLASSIFY if CLASSIFY in model.signatures else DEFAULT
    with np.load(given) as arrays:
        inputs = {name: _as_input(arrays[name]) for name in arrays.files}
    count = len(next(iter(inputs.values())))
    parts = [
        model.run(signature, {name: one[start : start + 256] for name, one in inputs.items()})
        for start in range(0, count, 256)
    ]
    outputs = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    texts = {name: _as_text(one) for name, one in outputs.items()}
    latency = latencies(lambda size: _call(model, signature, first_rows(inputs, size)))
    np.savez(found, allow_pickle=False, latency=np.array(latency), **texts)


def _call(model: ExportedModel, signature: str, inputs: Mapping[str, Array]) -> None:
    model.run(signature, inputs)


def _as_input(array: Array) -> Array:
    return array.astype(object) if array.dtype.kind == "U" else array


def _as_text(array: Array) -> Array:
    if array.dtype.kind != "O":
        return array
    return np.array([one.decode() if isinstance(one, bytes) else str(one) for one in array])


def _save_spec(spec: ExportSpec, path: Path) -> None:
    fields = {
        "is_single": spec.is_single,
        "columns": [asdict(column) for column in spec.columns],
        "labels": list(spec.labels),
        "encodes_words": spec.encodes_words,
        "quantization": spec.quantization,
        "files": dict(spec.files),
    }
    arrays = {f"example/{name}": array for name, array in spec.examples.items()}
    if spec.mean is not None and spec.std is not None:
        arrays |= {"mean": spec.mean, "std": spec.std}
    np.savez(path, allow_pickle=False, fields=np.array(json.dumps(fields)), **arrays)


def _load_spec(path: Path) -> ExportSpec:
    with np.load(path) as arrays:
        fields = json.loads(str(arrays["fields"]))
        columns = [Column(one["name"], tuple(one["words"])) for one in fields.pop("columns")]
        names = [name for name in arrays.files if name.startswith("example/")]
        return ExportSpec(
            examples={name.removeprefix("example/"): arrays[name] for name in names},
            mean=arrays.get("mean"),
            std=arrays.get("std"),
            columns=columns,
            **fields,
        )


if __name__ == "__main__":
    try:
        {"write": _write, "run": _run}[sys.argv[1]](*sys.argv[2:])
    except DlsweepError as error:
        print(f"\0{error}", file=sys.stderr)  # the mark that its first line begins here
        raise SystemExit(_REFUSED) from None
