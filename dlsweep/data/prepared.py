"""A data set, ready to train on: what is the same whatever the framework's batches are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from dlsweep.data.base import Array, Data, Split, as_data, check_batch, each
from dlsweep.errors import DataError


class Counted(Protocol):
    """What knows how many examples it has.

    Attributes:
        examples: How many; None if that is not known beforehand.
    """

    examples: int | None


B = TypeVar("B", bound=Counted)


@dataclass(frozen=True)
class Prepared(Generic[B]):
    """A data set, ready to train on.

    Attributes:
        train: In another order each epoch.
        validation: In the same order each epoch.
        test: Likewise, if it was set apart.
        record: What the run notes down about it, as plain JSON values.
    """

    train: B
    validation: B
    test: B | None
    record: dict[str, Any]


def prepared(
    found: object,
    batch_size: int,
    from_arrays: Callable[[Split, Data, bool], B],
    from_others: Callable[[object, bool], B | None],
    others: str,
) -> Prepared[B]:
    """Makes batches of whatever ``data._target_`` returned.

    Args:
        found: A :class:`Data`, or a dict with ``train`` and ``validation`` (and maybe ``test``),
            each of them a pair of arrays (inputs, targets) or what ``from_others`` takes.
        batch_size: The examples of a batch.
        from_arrays: Makes batches of a split, the data it belongs to, and whether it is the
            training data; targets are float32 or int64.
        from_others: Likewise of a framework's own; None if it is none of those.
        others: What those are, in words.

    Raises:
        ConfigError: If a batch is larger than the training data.
        DataError: If it is something else.
    """
    data = as_data(found)
    if data:
        check_batch(batch_size, len(data.train))
        parts: Mapping[str, object] = vars(data)
        record = {**data.record, **data.facts()}
    elif isinstance(found, Mapping) and {"train", "validation"} <= found.keys():
        parts, record = found, {}
    else:
        raise DataError(
            f"data: Received {described(found)}.\n"
            "Expected a dlsweep.data.Data, or a dict with 'train' and 'validation'."
        )

    def batches(name: str) -> B:
        part, is_train = parts[name], name == "train"
        if isinstance(part, tuple) and len(part) == 2:
            part = Split(each(part[0], np.asarray), np.asarray(part[1]))
        if isinstance(part, Split):
            part = Split(part.inputs, _typed(part.targets))
            return from_arrays(part, data or Data(part, part), is_train)
        if made := from_others(part, is_train):
            return made
        raise DataError(
            f"data[{name!r}]: Received {described(part)}.\n"
            f"Expected a pair of arrays (inputs, targets), {others}."
        )

    made = {name: batches(name) for name in ("train", "validation")}
    if parts.get("test") is not None:
        made["test"] = batches("test")
    examples = {name: one.examples for name, one in made.items()}
    record = {"examples": examples, **record}
    return Prepared(made["train"], made["validation"], made.get("test"), record)


def described(found: object) -> str:
    """What something is, in a few words."""
    if isinstance(found, Mapping):
        return f"a dict with {', '.join(map(repr, found)) or 'nothing in it'}"
    return f"{type(found).__module__}.{type(found).__qualname__}"


def _typed(targets: Array) -> Array:
    if targets.dtype.kind not in "fiub":
        raise DataError(f"targets: Received the type {targets.dtype}. Expected float or int.")
    return targets.astype(np.float32 if targets.dtype.kind == "f" else np.int64)
