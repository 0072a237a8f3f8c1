"""An exported model, as trackers register it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from dlsweep.folders.reading import read_json
from dlsweep.folders.rundir import RunDir
from dlsweep.runtimes.formats import FORMATS, Format


class ExportedVersion:
    """One version of an exported model: a folder, as ``exports/digits/onnx/1``.

    Args:
        folder: The folder.

    Attributes:
        folder: The folder.
        record: The content of ``export.json``.
        parity: The content of ``parity.json``.

    Raises:
        StudyError: If one of these files is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.record: Mapping[str, Any] = read_json(folder / "export.json")
        self.parity: Mapping[str, Any] = read_json(folder / "parity.json")

    @property
    def form(self) -> Format:
        """Its format."""
        return FORMATS[self.record["format"]]

    @cached_property
    def files(self) -> dict[str, list[Path]]:
        """Its files by their folder in it; that of the version itself is an empty string."""
        found: dict[str, list[Path]] = {}
        for path in sorted(self.folder.rglob("*")):
            if path.is_file():
                inner = path.parent.relative_to(self.folder).as_posix()
                found.setdefault("" if inner == "." else inner, []).append(path)
        return found

    @cached_property
    def digest(self) -> str:
        """A digest over the names and contents of its files."""
        digest = hashlib.sha256()
        for folder, paths in self.files.items():
            for path in paths:
                digest.update(f"{folder}/{path.name}\0".encode())
                digest.update(hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()

    def identity(self, run: RunDir) -> dict[str, str]:
        """Returns the tags by which a tracker knows it again."""
        return {"dlsweep.run_id": run.info().id, "dlsweep.digest": self.digest}

    def tags(self, run: RunDir) -> dict[str, str]:
        """Returns the tags that say where it comes from."""
        info = run.info()
        return {
            "dlsweep.study": info.study,
            "dlsweep.trial": info.name,
            "dlsweep.export": self.record["name"],
            "dlsweep.format": self.form.name,
            "dlsweep.export_version": self.folder.name,
        }

    def about(self, run: RunDir) -> str:
        """Returns one sentence that describes it."""
        info = run.info()
        kind = "Run" if info.number is None else "Trial"
        numbers = self.record["quantization"] or "float32"
        quality = (
            f", {name.replace('_', ' ')} {value:.4g}" for name, value in self._quality().items()
        )
        return (
            f"{kind} {info.name} of {info.study} as {self.form.name} ({numbers}): the scores "
            f"differ from the trained model's by at most {self.parity['largest_difference']:.2g}"
            f"{''.join(quality)}."
        )

    def figures(self) -> dict[str, float]:
        """Returns how it compares with the trained model, by the name of the figure."""
        names = ("largest_difference", "mean_difference", "agreement")
        found = {name: self.parity[name] for name in names if self.parity[name] is not None}
        return {**found, **self._quality()}

    def _quality(self) -> dict[str, float]:
        measures = ("accuracy", "mean_absolute_error")
        return {name: self.parity[name]["exported"] for name in measures if name in self.parity}
