"""The formats of exported models: their files, and the runtimes that run them."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dlsweep.machine.imports import require_package
from dlsweep.machine.remarks import without_remarks
from dlsweep.runtimes.base import ExportedModel


@dataclass(frozen=True)
class Format:
    """A format of exported models.

    Attributes:
        name: Its name on the command line and in the folder of exports.
        file: The name of its file in a version's folder; empty if the folder is the model.
        mark: The file by which a version's folder is known to have this format.
        runtime: The module and the class that run it.
        packages: The packages that it needs; the first runs it.
        quantizations: How its numbers can be made smaller.
        takes_words: Whether it takes a table's words, instead of their encoding.
    """

    name: str
    file: str
    mark: str
    runtime: tuple[str, str]
    packages: tuple[str, ...]
    quantizations: tuple[str, ...] = ()
    takes_words: bool = False

    def load(self, folder: Path) -> ExportedModel:
        """Loads the exported model in a version's folder.

        Raises:
            MissingExtraError: If its runtime is not installed.
            ExportError: If it cannot be loaded.
        """
        self.check_installed(self.packages[:1])
        module, name = self.runtime
        with without_remarks():
            runtime = importlib.import_module(module)
        model: ExportedModel = getattr(runtime, name)(folder / self.file)
        return model

    def check_installed(self, packages: Iterable[str]) -> None:
        """Raises MissingExtraError if one of these packages is not installed."""
        for package in packages:
            require_package(package, f"A model in the format {self.name}")


#: All formats by name.
FORMATS = {
    one.name: one
    for one in (
        Format(
            name="onnx",
            file="model.onnx",
            mark="model.onnx",
            runtime=("dlsweep.runtimes.onnx", "OnnxModel"),
            packages=("onnxruntime", "onnx", "onnxscript"),
            quantizations=("dynamic", "int8"),
            takes_words=True,
        ),
        Format(
            name="savedmodel",
            file="",
            mark="saved_model.pb",
            runtime=("dlsweep.runtimes.saved_model", "SavedModel"),
            packages=("tensorflow",),
            takes_words=True,
        ),
        Format(
            name="litert",
            file="model.tflite",
            mark="model.tflite",
            runtime=("dlsweep.runtimes.litert", "LiteRTModel"),
            packages=("ai_edge_litert", "tensorflow"),
            quantizations=("float16", "dynamic", "int8"),
        ),
        Format(
            name="torch",
            file="model.pt2",
            mark="model.pt2",
            runtime=("dlsweep.runtimes.program", "Program"),
            packages=("torch",),
        ),
        Format(
            name="keras",
            file="model.keras",
            mark="model.keras",
            runtime=("dlsweep.runtimes.keras_file", "KerasFile"),
            packages=("keras",),
        ),
    )
}


def format_of(folder: Path) -> Format | None:
    """Returns the format of a version's folder, if it has a model."""
    return next((one for one in FORMATS.values() if (folder / one.mark).is_file()), None)
