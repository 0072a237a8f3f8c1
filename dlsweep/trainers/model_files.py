"""Trained models as files of their framework's own formats, which the file's suffix names."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dlsweep.errors import ConfigError

#: Writes a model to a path that is free.
Writer = Callable[[Any, Path], None]


def write_model(load: Callable[[], Any], path: Path, formats: Mapping[str, Writer]) -> None:
    """Writes a model, whole or not at all.

    Args:
        load: Gives the model; called once the path is known to be good.
        path: Where it goes; a folder that is missing is made.
        formats: What writes it, by suffix; an empty one stands for a folder.

    Raises:
        ConfigError: If there is something already, or no format has the suffix.
    """
    write = _writer(path, formats)
    if os.path.lexists(path):
        raise ConfigError(f"{path} exists already, and is not overwritten. Expected a new name.")
    model = load()
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        write(model, aside)
        aside.rename(path)
    finally:
        aside.unlink(missing_ok=True) if aside.is_file() else shutil.rmtree(aside, True)


def _writer(path: Path, formats: Mapping[str, Writer]) -> Writer:
    for suffix, write in formats.items():
        if path.name.endswith(suffix) if suffix else not path.suffix:
            return write
    expected = ", ".join(suffix or "none, for a folder" for suffix in formats)
    raise ConfigError(
        f"{path}: Received the suffix {path.suffix!r}, which is no format of the framework that "
        f"trained this run.\nExpected one of  {expected}"
    )
