"""Saves trained models to files; the file's suffix selects the format."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dlsweep.errors import ConfigError

#: Writes a model to a new path.
Writer = Callable[[Any, Path], None]


def write_model(load: Callable[[], Any], path: Path, formats: Mapping[str, Writer]) -> None:
    """Writes a model file atomically.

    Args:
        load: Returns the model; called after the path has been checked.
        path: The file; missing folders are created.
        formats: The writers by suffix.

    Raises:
        ConfigError: If the file exists, or no format has the suffix.
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
        aside.unlink(missing_ok=True)


def _writer(path: Path, formats: Mapping[str, Writer]) -> Writer:
    for suffix, write in formats.items():
        if path.name.endswith(suffix):
            return write
    raise ConfigError(
        f"{path}: Received the suffix {path.suffix!r}, which is not a format of the framework "
        f"that trained this run.\nExpected one of  {', '.join(formats)}\nFor a model that other "
        "programs run, type  python -m dlsweep export"
    )
