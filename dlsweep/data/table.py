"""Tables from CSV or Parquet files; text columns are one-hot encoded."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np

from dlsweep.data.base import Array, Data, Split, split_at_random, split_by_class
from dlsweep.data.cache import decoded_once, sha256
from dlsweep.data.schema import Column
from dlsweep.errors import ConfigError, DataError, did_you_mean

if TYPE_CHECKING:
    from pandas import DataFrame, Series

Task: TypeAlias = Literal["classification", "regression"]

#: A text column with more distinct values than this is not a category.
_MOST_CATEGORIES = 1000


def table(
    path: str,
    target: str,
    columns: Sequence[str] | None = None,
    task: Task | None = None,
    validation: float = 0.2,
    seed: int = 0,
    input_shape: Sequence[int] | None = None,
    classes: int | None = None,
    standardize_target: bool = False,
) -> Data:
    """Loads the rows of a table as examples.

    A numeric column is one input, normalized to mean 0 and deviation 1. A text column is one-hot
    encoded: one input for each distinct value. For classification, the target's distinct values,
    sorted, are the classes; for regression, it is predicted as a number.

    Args:
        path: A ``.csv`` file with a header line, or a ``.parquet`` file.
        target: The column to predict.
        columns: The input columns; None for all others.
        task: ``classification`` or ``regression``; None means regression for a float target.
        validation: The share of rows to hold out; equal for each class.
        seed: The seed of that choice.
        input_shape: None, or the expected [inputs].
        classes: None, or the expected number of classes (1 for regression).
        standardize_target: Whether a model is trained on a target of mean 0 and deviation 1, by
            the statistics of the training rows. Metrics, predictions and exports are in the
            column's own units.

    Raises:
        ConfigError: If there is no such column, or the table is not as expected.
        DataError: If the file cannot be read, or a column cannot be used; the message has its name.
    """
    file = _checked_file(path, task)
    wanted = None if columns is None else list(columns)
    content = sha256(file)
    options = hashlib.sha256(repr((content, target, wanted, task)).encode()).hexdigest()
    arrays = decoded_once("columns", options, lambda: _decode(file, target, wanted, task))
    inputs, targets, labels = arrays["inputs"], arrays["targets"], arrays["labels"].tolist()
    parts = _columns(arrays)
    _check("input_shape", input_shape, [inputs.shape[1]])
    _check("classes", classes, len(labels) or 1)
    if standardize_target and labels:
        raise ConfigError(
            f"data.standardize_target: Received true, and the column {target!r} is one of classes."
            "\nExpected values. Type  data.task=regression"
        )
    split = split_by_class if labels else split_at_random
    train, held_out = split(targets, validation, seed)
    is_number = np.array([not column.words for column in parts for _ in column.names])
    mean, std = _statistics(inputs[train], is_number)
    target_mean, target_std = _target_statistics(targets[train], standardize_target)
    return Data(
        Split(inputs[train], targets[train]),
        Split(inputs[held_out], targets[held_out]),
        mean=mean,
        std=std,
        target_mean=target_mean,
        target_std=target_std,
        classes=len(labels) or None,
        columns=parts,
        record={
            "name": "table",
            "source": str(file),
            "sha256": content,
            "columns": [name for column in parts for name in column.names],
            "class_names": labels,
            "examples": {"train": len(train), "validation": len(held_out)},
        },
    )


def _checked_file(path: str, task: str | None) -> Path:
    """Returns the table's file; checks that it exists, and that there is such a task."""
    file = Path(path).expanduser().absolute()
    if not file.is_file():
        raise DataError(f"data.path: {file} is not a file.\nType  data.path=<table.csv>")
    if task not in (None, *get_args(Task)):
        raise ConfigError(
            f"data.task: Received {task!r}. Expected classification, regression, or null: "
            "regression for a float target.\nType  data.task=regression"
        )
    return file


def _decode(
    file: Path, target: str, wanted: list[str] | None, task: Task | None
) -> dict[str, Array]:
    """Encodes the table as numbers.

    Returns:
        ``inputs`` [rows, inputs]; the ``names`` of the columns, the ``counts`` of words that each
        has (0 for numbers) and these ``words``; ``targets`` [rows] with the ``labels`` of the
        classes, or [rows, 1] and no labels.
    """
    frame = _read(file)
    chosen = [name for name in frame.columns if name != target] if wanted is None else wanted
    for key, name in [("target", target), *(("columns", name) for name in chosen)]:
        if name not in frame.columns:
            hint = did_you_mean(name, map(str, frame.columns))
            raise ConfigError(
                f"data.{key}: {file} has no column {name!r}.{hint}\n"
                f"Expected one of {', '.join(map(str, frame.columns))}."
            )
    if target in chosen or not chosen:
        raise ConfigError(
            f"data.columns: Received {chosen} with the target {target!r}. "
            "Expected one column or more, without the target."
        )
    parts = [_encoded(file, frame[name]) for name in chosen]
    return {
        "inputs": np.concatenate([values for values, _ in parts], axis=1, dtype=np.float32),
        "names": np.array([str(name) for name in chosen]),
        "counts": np.array([len(words) for _, words in parts]),
        "words": np.array([word for _, words in parts for word in words], dtype=np.str_),
        **_encoded_target(file, frame[target], task),
    }


def _columns(arrays: dict[str, Array]) -> list[Column]:
    """Returns the columns of a decoded table."""
    parts = np.split(arrays["words"], np.cumsum(arrays["counts"])[:-1])
    return [
        Column(name, tuple(words.tolist()))
        for name, words in zip(arrays["names"].tolist(), parts, strict=True)
    ]


def _read(file: Path) -> DataFrame:
    import pandas

    readers: dict[str, Any] = {".csv": pandas.read_csv, ".parquet": pandas.read_parquet}
    if file.suffix not in readers:
        raise ConfigError(f"data.path: Received {file.name}. Expected a .csv or .parquet file.")
    try:
        frame: DataFrame = readers[file.suffix](file)
    except (OSError, ValueError) as error:
        raise DataError(f"data.path: {file} cannot be read as a table: {error}.") from None
    if not len(frame):
        raise DataError(f"data.path: {file} has no rows.")
    return frame


def _encoded(file: Path, column: Series[Any]) -> tuple[Array, list[str]]:
    """Encodes a column: inputs [rows, inputs], and its words if it is not numeric."""
    _check_complete(file, column)
    if column.dtype.kind in "iufb":
        return column.to_numpy(np.float32)[:, None], []
    words, codes = _coded(file, column)
    if len(words) > _MOST_CATEGORIES:
        raise DataError(
            f"{file}: the column {column.name!r} has {len(words)} different words, "
            f"more than {_MOST_CATEGORIES}.\nName the columns to use:  data.columns=[…]"
        )
    return np.eye(len(words), dtype=np.float32)[codes], words


def _encoded_target(file: Path, column: Series[Any], task: Task | None) -> dict[str, Array]:
    _check_complete(file, column)
    if task == "regression" and column.dtype.kind not in "iufb":
        raise DataError(
            f"{file}: the column {column.name!r} contains words. Expected numbers for "
            "data.task=regression.\nType  data.task=classification"
        )
    if task == "regression" or (task is None and column.dtype.kind == "f"):
        return {"targets": column.to_numpy(np.float32)[:, None], "labels": np.array([], "U1")}
    words, codes = _coded(file, column)
    return {"targets": codes, "labels": np.array([str(word) for word in words])}


def _coded(file: Path, column: Series[Any]) -> tuple[list[Any], Array]:
    """Returns the sorted distinct values of a column, and the index of each row's value."""
    if column.dtype.kind in "mM":
        raise DataError(
            f"{file}: the column {column.name!r} contains times.\n"
            "Expected numbers or words; convert it, or leave it out with  data.columns=[…]"
        )
    values = column if column.dtype.kind in "iubf" else column.astype(str)
    words, codes = np.unique(values.to_numpy(), return_inverse=True)
    return words.tolist(), codes.astype(np.int64)


def _check_complete(file: Path, column: Series[Any]) -> None:
    values = column.replace([np.inf, -np.inf], np.nan) if column.dtype.kind == "f" else column
    if missing := int(values.isna().sum()):
        first = int(values.isna().to_numpy().argmax())
        raise DataError(
            f"{file}: the column {column.name!r} has {missing} missing or infinite values, the "
            f"first in row {first + 1}.\n"
            "Fill them in, remove the rows, or leave the column out with  data.columns=[…]"
        )


def _check(name: str, received: object, found: object) -> None:
    if received is not None and received != found:
        raise ConfigError(f"data.{name}: Received {received}. Expected {found}, as in the table.")


def _statistics(inputs: Array, is_number: Array) -> tuple[Array, Array]:
    """Returns mean and deviation of numeric columns; 0 and 1 for text and constant columns."""
    mean, std = inputs.mean(axis=0, dtype=np.float64), inputs.std(axis=0, dtype=np.float64)
    varies = is_number & (std > 0)
    return np.where(is_number, mean, 0.0), np.where(varies, std, 1.0)


def _target_statistics(targets: Array, standardizes: bool) -> tuple[Array, Array]:
    """Returns mean and deviation of each target; 0 and 1 where it stays as it is."""
    if not standardizes:
        return np.array(0.0), np.array(1.0)
    mean, std = targets.mean(axis=0, dtype=np.float64), targets.std(axis=0, dtype=np.float64)
    return mean, np.where(std > 0, std, 1.0)
