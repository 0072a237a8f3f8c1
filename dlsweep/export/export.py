"""Exports trained models: writes, runs and compares each, and keeps what is as the trained one."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dlsweep.data.base import Array, by_name
from dlsweep.errors import ConfigError, ExportError, did_you_mean
from dlsweep.export import child
from dlsweep.export.description import describe, describe_parity
from dlsweep.export.layout import publish, written_aside
from dlsweep.export.parity import Parity, compare, tolerance_of
from dlsweep.export.source import (
    Examples,
    class_names,
    read_examples,
)
from dlsweep.folders.rundir import RunDir
from dlsweep.results.loading import open_trained
from dlsweep.results.quality import measure_for, predict
from dlsweep.run.run import Run
from dlsweep.runtimes.formats import FORMATS, Format
from dlsweep.security.trust import check_trusted
from dlsweep.trainers.base import Trainer
from dlsweep.trainers.epoch_trainer import EpochTrainer
from dlsweep.trainers.exporting import ExportSpec, Quantization


@dataclass(frozen=True)
class Options:
    """What to export, and how.

    Attributes:
        formats: The names of the formats.
        quantization: How to make the model's numbers smaller, if at all.
        name: The name of the export; None for the study's.
        out: The folder of all exports.
        tolerance: How far an exported model may differ from the trained one; see
            :meth:`dlsweep.export.parity.Parity.faults`. None for the format's own.

    Raises:
        ConfigError: If a value is not valid.
    """

    formats: Sequence[str]
    quantization: Quantization | None = None
    name: str | None = None
    out: Path = Path("exports")
    tolerance: float | None = None

    def __post_init__(self) -> None:
        for one in self.formats or [""]:
            if one not in FORMATS:
                raise ConfigError(
                    f"--to: Received {one!r}.{did_you_mean(one, FORMATS)}\n"
                    f"Expected one or more of {', '.join(FORMATS)}, as  --to onnx,savedmodel"
                )
            if self.quantization and self.quantization not in FORMATS[one].quantizations:
                able = [
                    name
                    for name, form in FORMATS.items()
                    if self.quantization in form.quantizations
                ]
                raise ConfigError(
                    f"--quantize: Received {self.quantization!r} with the format {one}.\n"
                    f"Expected one of the formats {', '.join(able)}."
                )
        if self.name is not None and not re.fullmatch(r"[A-Za-z0-9][\w.-]*", self.name):
            raise ConfigError(
                f"--name: Received {self.name!r}. Expected letters, digits, _, - and ., as digits."
            )
        if self.tolerance is not None and not 0 <= self.tolerance < float("inf"):
            raise ConfigError(f"--tolerance: Received {self.tolerance}. Expected 0 or more.")


@dataclass(frozen=True)
class Exported:
    """An exported model.

    Attributes:
        folder: The folder of its version.
        form: The name of its format.
        parity: How it compares with the trained model.
        report: The content of its ``parity.json``.
    """

    folder: Path
    form: str
    parity: Parity
    report: Mapping[str, Any]


@dataclass(frozen=True)
class Trained:
    """The trained model: what is exported, and what an exported model is compared with.

    Attributes:
        trainer: Its trainer.
        run: Its run.
        model: The model.
        examples: Its data.
        scores: Its scores on the validation examples.
        latency: Its latency in milliseconds for each of :data:`dlsweep.export.child.BATCHES`.
    """

    trainer: Trainer
    run: Run
    model: Any
    examples: Examples
    scores: Array
    latency: Sequence[float]


def export(
    run_dir: RunDir, options: Options, conf: Sequence[Path]
) -> Iterator[Exported | ExportError]:
    """Exports the trained model of a run.

    Args:
        run_dir: The run folder.
        options: What to export, and how.
        conf: The trusted YAML folders.

    Yields:
        For each format, the exported model or the reason why there is none.

    Raises:
        DlsweepError: If nothing can be exported.
    """
    check_trusted(Run(run_dir).config, run_dir.path, conf)
    trainer, run = open_trained(run_dir.path)
    _check_formats(trainer, options.formats)
    if isinstance(trainer, EpochTrainer):
        trainer.precision = "fp32"  # runtimes lack bfloat16; the weights are float32 in any case
    trained = _load(trainer, run)
    spec = _spec(trained, options.quantization)
    name = options.name or re.sub(r"^\W+|[^\w.-]", "_", run_dir.info().study or run_dir.path.name)
    for form in options.formats:
        yield _attempt(trained, FORMATS[form], spec, options.out / name / form, options)


def _check_formats(trainer: Trainer, formats: Sequence[str]) -> None:
    able = trainer.export_environments
    for form in formats:
        if form not in able:
            raise ConfigError(
                f"--to: Received {form!r} for a run of {type(trainer).__qualname__}.\n"
                + (f"Expected one of {', '.join(able)}." if able else "It cannot export a model.")
            )
        FORMATS[form].check_installed([*FORMATS[form].packages, *able[form].values()])


def _load(trainer: Trainer, run: Run) -> Trained:
    examples = read_examples(trainer, run)
    model = trainer.load_model(run)
    inputs = examples.model_inputs()
    named = by_name(inputs)

    def call(size: int) -> object:
        rows = child.first_rows(named, size)
        return trainer.predict(model, rows["inputs"] if examples.is_single else rows)

    scores = predict(trainer, model, inputs)
    return Trained(trainer, run, model, examples, scores, child.latencies(call))


def _spec(trained: Trained, quantization: Quantization | None) -> ExportSpec:
    examples, data = trained.examples, trained.examples.data
    is_classifier = getattr(trained.trainer, "is_classifier", False)
    measure = measure_for(is_classifier, trained.scores, examples.targets)
    labels = class_names(examples, trained.scores) if measure == "accuracy" else []
    return ExportSpec(
        examples=examples.calibrating,
        is_single=examples.is_single,
        mean=np.asarray(data.mean) if data else None,
        std=np.asarray(data.std) if data else None,
        columns=data.columns if data else (),
        labels=labels,
        quantization=quantization,
    )


def _attempt(
    trained: Trained, form: Format, spec: ExportSpec, folder: Path, options: Options
) -> Exported | ExportError:
    try:
        return _export_one(trained, form, spec, folder, options)
    except ExportError as error:
        return ExportError(f"{form.name}: {error}")


def _export_one(
    trained: Trained, form: Format, spec: ExportSpec, folder: Path, options: Options
) -> Exported:
    """Exports to one format: writes it aside, runs it, compares it, and gives it a version."""
    if not form.takes_words:
        spec = replace(spec, encodes_words=False)
    spec = replace(
        spec, files=describe(trained.run, trained.examples.record, form, spec, folder.parent.name)
    )
    with written_aside(folder) as aside:
        _write(trained, form, spec, aside / form.file)
        inputs = spec.raw(trained.examples.compared)
        outputs, latency = child.run_apart(form.name, aside, inputs)
        tolerance = tolerance_of(options.tolerance, spec.quantization)
        targets = trained.examples.targets
        parity = compare(
            trained.scores, outputs, targets, list(spec.labels), tolerance, spec.quantization
        )
        if faults := parity.faults(spec.quantization):
            raise ExportError(
                f"The exported model differs from the trained one: {', and '.join(faults)}.\n"
                "Nothing was kept. Accept it with  --tolerance <number>"
            )
        before = dict(zip(child.BATCHES, trained.latency, strict=True))
        report = describe_parity(parity, form, aside, before, latency)
        files = {**spec.files, "parity.json": json.dumps(report, indent=1) + "\n"}
        for name, text in files.items():
            (aside / name).write_text(text)
        return Exported(publish(aside, folder), form.name, parity, report)


def _write(trained: Trained, form: Format, spec: ExportSpec, path: Path) -> None:
    able = trained.trainer.export_environments
    environment = able[form.name]
    try:
        if all(os.environ.get(name) == value for name, value in environment.items()):
            trained.trainer.export_model(trained.model, form.name, spec, path)
        else:
            child.write_apart(trained.run.dir.path, form.name, spec, path, environment)
    except ExportError as error:
        others = ",".join(name for name in able if name != form.name)
        raise ExportError(f"{error}\nOther formats of this run:  --to {others}") from None
    if form.name == "onnx":
        from dlsweep.export.onnx_graph import complete

        complete(path, spec)
