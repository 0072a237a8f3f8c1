"""A data set in batches, ready to train on; the part that all frameworks share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from dlsweep.data.base import Array, Data, Split, as_data, as_split, check_batch
from dlsweep.errors import DataError


class Counted(Protocol):
    """Has a number of examples.

    Attributes:
        examples: The number of examples; None if it is unknown.
    """

    examples: int | None


B = TypeVar("B", bound=Counted)


@dataclass(frozen=True)
class Prepared(Generic[B]):
    """A data set in batches, ready to train on.

    Attributes:
        train: The training data, in another order each epoch.
        validation: The validation data, in the same order each epoch.
        test: The test data, if there is some, in the same order each epoch.
        record: What the run stores about it, as plain JSON values.
    """

    train: B
    validation: B
    test: B | None
    record: dict[str, Any]

    @property
    def target_std(self) -> Array:
        """What a difference of targets is multiplied by to be in their own units, as float32."""
        return np.asarray(self.record.get("target_std", 1.0), np.float32)


def prepared(
    found: object,
    batch_size: int,
    from_arrays: Callable[[Split, Data, bool], B],
    from_others: Callable[[object, bool], B | None],
    others: str,
) -> Prepared[B]:
    """Makes batches from the result of ``data._target_``.

    Args:
        found: A :class:`Data`, or a dict with ``train`` and ``validation`` (and maybe ``test``),
            each a pair of arrays (inputs, targets) or an object that ``from_others`` accepts.
        batch_size: The number of examples in a batch.
        from_arrays: Makes batches from a split, its data set, and whether it is the training data;
            targets are float32, standardized if the data set has their statistics, or int64.
        from_others: Makes batches from a framework's own object; returns None for other types.
        others: A description of the types that ``from_others`` accepts.

    Raises:
        ConfigError: If a batch is larger than the training data.
        DataError: If ``found`` is something else.
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
            part = as_split(part)
        if isinstance(part, Split):
            targets = data.standardise(part.targets) if data else part.targets
            part = Split(part.inputs, _typed(targets))
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
    """Describes an object in a few words."""
    if isinstance(found, Mapping):
        return f"a dict with {', '.join(map(repr, found)) or 'nothing in it'}"
    return f"{type(found).__module__}.{type(found).__qualname__}"


def _typed(targets: Array) -> Array:
    if targets.dtype.kind not in "fiub":
        raise DataError(f"targets: Received the type {targets.dtype}. Expected float or int.")
    return targets.astype(np.float32 if targets.dtype.kind == "f" else np.int64)
