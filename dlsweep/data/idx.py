"""Reads IDX files, the format of MNIST."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from dlsweep.data.base import Array
from dlsweep.errors import DataError

_GZIP = b"\x1f\x8b"
_UNSIGNED_BYTE = 8


def find_idx(folder: Path, name: str) -> Path | None:
    """Finds a file in a folder, gzipped or not; None if there is none."""
    return next((path for path in (folder / f"{name}.gz", folder / name) if path.is_file()), None)


def read_idx(path: Path, dimensions: int) -> Array:
    """Reads an IDX file of unsigned bytes.

    Args:
        path: The file, gzipped or not, with any suffix.
        dimensions: The number of dimensions that the array must have.

    Returns:
        A uint8 array.

    Raises:
        DataError: If the file is damaged, or contains something else.
    """
    content = _unpacked(path)
    header = 4 + 4 * dimensions
    if len(content) < header or content[:4] != bytes([0, 0, _UNSIGNED_BYTE, dimensions]):
        raise DataError(
            f"{path} is not the IDX file that it should be.\n"
            f"Received a file that starts with {content[:4].hex(' ') or 'nothing'}. "
            f"Expected 00 00 08 {dimensions:02x}: unsigned bytes in {dimensions} dimensions.\n"
            "Remove it, and put the published file there."
        )
    shape = tuple(np.frombuffer(content, ">u4", dimensions, offset=4).tolist())
    if len(content) - header != math.prod(shape):
        raise DataError(
            f"{path} is damaged.\n"
            f"Received {len(content) - header} values. "
            f"Expected {math.prod(shape)}, for its shape {list(shape)}.\n"
            "Remove it, and put the published file there."
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _unpacked(path: Path) -> bytes:
    content = path.read_bytes()
    if not content.startswith(_GZIP):
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(
            f"{path} is damaged: {error}.\nRemove it, and put the published file there."
        ) from None
