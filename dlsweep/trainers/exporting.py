"""What an exported model takes and returns, for the exporters of all frameworks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, TypeVar

import numpy as np

from dlsweep.data.base import Array, Split, by_name
from dlsweep.data.prepared import described
from dlsweep.data.schema import Column, argument_names, plain_dtype, split_columns
from dlsweep.errors import DataError, ExportError

#: How the numbers in an exported model are made smaller.
Quantization: TypeAlias = Literal["float16", "dynamic", "int8"]
#: The name of the input of a model that has one input.
INPUT = "inputs"
#: The names of the outputs: one score for each class; and, of a classifier, the class with the
#: highest score and its probability.
SCORES, LABEL, PROBABILITY = "scores", "label", "probability"

T = TypeVar("T")


@dataclass(frozen=True)
class ExportSpec:
    """What an exported model takes and returns.

    Attributes:
        examples: A few hundred training inputs by name, not normalized, in the types that the
            exported model takes: shape [examples, ...]. Words are encoded.
        is_single: Whether the model takes one array instead of arrays by name.
        mean: The mean that normalizes the inputs; see :class:`dlsweep.data.Data`. None if the model
            takes the inputs as they are.
        std: The standard deviation, likewise.
        columns: The columns of a table.
        labels: The class names of a classifier, in the order of its scores; empty for other models.
        encodes_words: Whether the exported model encodes words itself; else its user does.
        quantization: How to make the numbers in the model smaller, if at all.
        files: Texts to store with the model, by file name.
    """

    examples: Mapping[str, Array]
    is_single: bool
    mean: Array | None = None
    std: Array | None = None
    columns: Sequence[Column] = ()
    labels: Sequence[str] = ()
    encodes_words: bool = True
    quantization: Quantization | None = None
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def has_words(self) -> bool:
        """Whether the exported model takes words."""
        return self.encodes_words and any(column.words for column in self.columns)

    @property
    def arguments(self) -> list[str]:
        """The names of what the user passes: of the columns if there are words, else the inputs."""
        if not self.has_words:
            return list(self.examples)
        return argument_names(self.columns, [INPUT, SCORES, LABEL, PROBABILITY])

    def raw(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Returns encoded inputs as the user has them: by column if there are words."""
        if not self.has_words:
            return dict(inputs)
        return dict(zip(self.arguments, split_columns(self.columns, inputs[INPUT]), strict=True))

    def scaling(self, name: str) -> tuple[Array, Array] | None:
        """Returns what to subtract from an input and then to divide it by, as float32.

        None if the model takes the input as it is: integers, or if nothing is normalized.
        """
        dtype = self.examples[name].dtype
        if self.mean is None or self.std is None or dtype == np.int64:
            return None
        scale = 255.0 if dtype == np.uint8 else 1.0
        return (self.mean * scale).astype(np.float32), (self.std * scale).astype(np.float32)

    def call(self, model: Callable[[Any], T], inputs: Mapping[str, Any]) -> T:
        """Calls a model with its inputs: with the only one, or with all by name."""
        return model(inputs[INPUT] if self.is_single else dict(inputs))


def typed(inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Converts inputs to the types that an exported model takes: uint8, float32 or int64."""
    return {name: array.astype(plain_dtype(array)) for name, array in inputs.items()}


def only_output(output: T, kind: type[T]) -> T:
    """Returns a model's output.

    Raises:
        ExportError: If it is not one tensor.
    """
    if isinstance(output, kind):
        return output
    raise ExportError(
        f"The model returns a {type(output).__qualname__}. Expected one tensor of scores: a model "
        "with several outputs cannot be exported.\nExport a model that calls yours and returns the "
        "output to serve."
    )


def gather(batches: Iterable[Any], most: int) -> Split:
    """Gathers the first examples of batches.

    Args:
        batches: Pairs of inputs and targets, as arrays.
        most: The largest number of examples.

    Raises:
        DataError: If a batch is not such a pair.
    """
    parts: list[tuple[dict[str, Array], Array]] = []
    count = 0
    for batch in batches:
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            raise DataError(
                f"data: Received a batch of {described(batch)}. Expected a pair of inputs and "
                "targets, to compare the exported model with the trained one."
            )
        inputs, targets = batch
        parts.append((by_name(inputs), targets))
        count += len(targets)
        if count >= most:
            break
    joined = {
        name: np.concatenate([inputs[name] for inputs, _ in parts])[:most] for name in parts[0][0]
    }
    is_single = not isinstance(inputs, Mapping)
    found = np.concatenate([targets for _, targets in parts])[:most]
    return Split(joined[INPUT] if is_single else joined, found)
