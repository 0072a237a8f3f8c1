"""The folders of exported models: ``<name>/<format>/<version>``."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from dlsweep.errors import ConfigError


@contextlib.contextmanager
def written_aside(folder: Path) -> Iterator[Path]:
    """Creates a folder beside the versions; removes it at the end if it is still there."""
    aside = folder / f".{os.getpid()}"
    try:
        aside.mkdir(parents=True)
    except OSError as error:
        raise ConfigError(
            f"{folder} cannot be written: {error.strerror}.\nGive another with  --out <folder>"
        ) from None
    try:
        yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def publish(aside: Path, folder: Path) -> Path:
    """Gives a new export the next version; one of another process is never replaced."""
    while True:
        versions = [int(one.name) for one in folder.iterdir() if one.name.isdecimal()]
        target = folder / str(max(versions, default=0) + 1)
        try:
            aside.rename(target)
        except OSError:
            if not target.exists():
                raise
        else:
            return target
