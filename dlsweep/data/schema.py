"""The schema of a data set: what one example consists of, in the words of its owner."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: Its name in the table.
        words: The words that may be in it, sorted; empty for a column of numbers. A word is encoded
            as one number for each of these: 1 for itself, 0 for the others.
    """

    name: str
    words: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """The number of encoded numbers."""
        return len(self.words) or 1

    @property
    def names(self) -> list[str]:
        """The names of the encoded numbers."""
        return [f"{self.name}={word}" for word in self.words] or [self.name]


def argument_names(columns: Sequence[Column], taken: Sequence[str]) -> list[str]:
    """Returns a name for each column that every format accepts for an argument of a model.

    Characters other than ASCII letters, digits and ``_`` become ``_``; a name that is taken gets a
    number.

    Args:
        columns: The columns.
        taken: Names that have another meaning.
    """
    names: list[str] = []
    for column in columns:
        plain = re.sub(r"\W", "_", column.name, flags=re.ASCII)
        base = name = plain if plain[:1].isalpha() else f"column_{plain}"
        number = 2
        while name in {*names, *taken}:
            name, number = f"{base}_{number}", number + 1
        names.append(name)
    return names


def split_columns(columns: Sequence[Column], encoded: NDArray[Any]) -> list[NDArray[Any]]:
    """Returns the columns of encoded rows as in the table.

    Args:
        columns: The columns.
        encoded: Shape [rows, sum of the columns' widths].

    Returns:
        For each column, shape [rows]: float32 numbers, or words.
    """
    found: list[NDArray[Any]] = []
    ends = np.cumsum([column.width for column in columns])
    for column, end in zip(columns, ends, strict=True):
        part = encoded[:, end - column.width : end]
        words = np.array(column.words, dtype=np.str_)
        found.append(words[part.argmax(1)] if column.words else part[:, 0].astype(np.float32))
    return found


def schema_of(
    inputs: Mapping[str, NDArray[Any]], columns: Sequence[Column] = ()
) -> list[dict[str, Any]]:
    """Describes one example as plain JSON values.

    Args:
        inputs: The inputs by name, each of shape [examples, ...]; unused if there are columns.
        columns: The columns of a table.

    Returns:
        For each input or column its ``name``, ``dtype``, the ``shape`` of one example and, for a
        column of words, the ``words``. The dtype is uint8, int64, float32 or string.
    """
    if not columns:
        return [
            {"name": name, "dtype": plain_dtype(array).name, "shape": list(array.shape[1:])}
            for name, array in inputs.items()
        ]
    return [
        {
            "name": column.name,
            "dtype": "string" if column.words else "float32",
            "shape": [],
            **({"words": list(column.words)} if column.words else {}),
        }
        for column in columns
    ]


def plain_dtype(array: NDArray[Any]) -> np.dtype[Any]:
    """Returns the type in which a model's user passes such inputs: uint8, float32 or int64."""
    if array.dtype == np.uint8:
        return array.dtype
    return np.dtype(np.float32 if array.dtype.kind == "f" else np.int64)
