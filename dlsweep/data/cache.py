"""A cache of decoded arrays on disk. All trials of a machine map the same pages."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from dlsweep.data.base import Array
from dlsweep.errors import DataError


def cache_folder() -> Path:
    """Returns dlsweep's cache folder: ``$XDG_CACHE_HOME/dlsweep``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dlsweep"


def sha256(path: Path) -> str:
    """Returns the SHA-256 digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def decoded_once(
    name: str, digest: str, decode: Callable[[], Mapping[str, Array]]
) -> dict[str, Array]:
    """Maps arrays from the cache; decodes and stores them first if they are not there.

    Args:
        name: The name of the data set.
        digest: The digest of the encoded data.
        decode: Called if the cache has no entry with this name and digest.

    Returns:
        Read-only arrays by name.

    Raises:
        DataError: If the cache cannot be written or read.
    """
    folder = cache_folder() / f"{name}-{digest[:12]}"
    if not folder.is_dir():
        _publish(folder, decode())
    try:
        return {path.stem: np.load(path, mmap_mode="r") for path in folder.glob("*.npy")}
    except (OSError, ValueError) as error:
        raise DataError(
            f"The cache {folder} is damaged: {error}.\n"
            "Remove that folder; it will be created again."
        ) from None


def _publish(folder: Path, arrays: Mapping[str, Array]) -> None:
    """Writes the arrays to a temporary folder and renames it; safe with several processes."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            for name, array in arrays.items():
                _write(aside / f"{name}.npy", array)
            _rename(aside, folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        raise DataError(
            f"The cache {folder.parent} cannot be written: {error.strerror}.\n"
            "Set another folder:  export XDG_CACHE_HOME=/some/folder"
        ) from None


def _write(path: Path, array: Array) -> None:
    with path.open("wb") as file:
        np.save(file, array)
        file.flush()
        os.fsync(file.fileno())


def _rename(aside: Path, folder: Path) -> None:
    aside.chmod(0o755)
    try:
        aside.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another process was first
            raise
