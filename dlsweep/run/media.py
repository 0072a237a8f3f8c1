"""Images, figures, histograms and tables as plain values for records."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from dlsweep.errors import DataError
from dlsweep.folders.rundir import Media
from dlsweep.machine.imports import require_package

_BINS = 64


def png(image: Any) -> bytes:
    """Encodes an image as PNG.

    Args:
        image: A Pillow image, or an array of shape [height, width] or [height, width, channels]
            with 1, 3 or 4 channels: uint8, or floats from 0 to 1.

    Raises:
        DataError: If it is not an image.
        MissingExtraError: If Pillow is not installed.
    """
    require_package("PIL", "run.log_image", "pillow")
    from PIL import Image

    if not isinstance(image, Image.Image):
        image = Image.fromarray(_pixels(np.asarray(image)))
    file = io.BytesIO()
    image.save(file, format="PNG")
    return file.getvalue()


def _pixels(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Converts to uint8, of shape [height, width] or with 3 or 4 channels."""
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    is_image = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    if not is_image or 0 in array.shape:
        hint = ""
        if array.ndim == 3 and array.shape[0] in (1, 3, 4):
            hint = " Channels come last:  image.transpose(1, 2, 0)"
        raise DataError(
            f"log_image: Received the shape {list(array.shape)}. Expected [height, width] or "
            f"[height, width, channels] with 1, 3 or 4 channels.{hint}"
        )
    if array.dtype == np.uint8:
        return array
    values = array.astype(np.float64)
    if not (values.min() >= 0 and values.max() <= 1):
        raise DataError(
            f"log_image: Received {array.dtype} from {values.min():g} to {values.max():g}. "
            "Expected uint8, or floats from 0 to 1."
        )
    return (values * 255).round().astype(np.uint8)


def figure_png(figure: Any) -> bytes:
    """Encodes a Matplotlib figure as PNG.

    Raises:
        DataError: If it is not a figure.
    """
    if not hasattr(figure, "savefig"):
        raise DataError(
            f"log_figure: Received {type(figure).__name__}. Expected a Matplotlib figure."
        )
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def histogram(values: Any) -> Media:
    """Counts values in 64 bins of equal width; NaN and infinity are left out."""
    flat = np.asarray(values, dtype=np.float64).ravel()
    finite = flat[np.isfinite(flat)]
    counts, edges = np.histogram(finite, bins=_BINS)
    return {
        "kind": "histogram",
        "counts": counts.tolist(),
        "edges": edges.tolist(),
        "sum": float(finite.sum()),
        "sum_squares": float((finite**2).sum()),
    }


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Media:
    """Converts a table to plain values.

    Raises:
        DataError: If a row is longer or shorter than the columns.
    """
    plain = [[_plain(cell) for cell in row] for row in rows]
    for row in plain:
        if len(row) != len(columns):
            raise DataError(
                f"log_table: Received a row of {len(row)} cells: {row}.\n"
                f"Expected {len(columns)}: {', '.join(map(str, columns))}."
            )
    return {"kind": "table", "columns": [str(name) for name in columns], "rows": plain}


def _plain(cell: Any) -> str | int | float | bool | None:
    if hasattr(cell, "item"):  # a scalar of NumPy or of a framework
        cell = cell.item()
    return cell if cell is None or isinstance(cell, str | int | float | bool) else str(cell)
