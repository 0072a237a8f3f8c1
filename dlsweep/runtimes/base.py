"""What every exported model has: named signatures, and a method that runs one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dlsweep.errors import DlsweepError

#: The signature that a request without a name means, and the one that adds label and probability.
DEFAULT, CLASSIFY = "serving_default", "classify"


class InputError(DlsweepError):
    """An exported model was given something that it cannot take."""


@dataclass(frozen=True)
class Tensor:
    """An input or an output.

    Attributes:
        name: Its name in the model's graph.
        dtype: NumPy's name of the type of its values, or ``string``.
        shape: Its dimensions, -1 where any size will do; None if even their number is open.
    """

    name: str
    dtype: str
    shape: tuple[int, ...] | None


@dataclass(frozen=True)
class Signature:
    """One way to call a model: its inputs and outputs by name."""

    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]


class ExportedModel(Protocol):
    """An exported model in its runtime. Several threads may run it at once."""

    @property
    def signatures(self) -> Mapping[str, Signature]:
        """The signatures by name."""

    def run(self, signature: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Runs the model.

        Args:
            signature: The name of a signature.
            inputs: An array for each of its inputs, of that input's type and shape. Strings come
                as an object array of ``str``, or of ``bytes`` in UTF-8.

        Returns:
            An array for each output of the signature, by name; also here, strings are ``str`` or
            ``bytes``, and :func:`texts` makes all of them ``str``.

        Raises:
            InputError: If the model refuses the values, as a word that it does not know.
        """


def texts(values: NDArray[Any]) -> NDArray[np.object_]:
    """Returns an object array of ``str`` for one that also contains ``bytes``.

    Raises:
        InputError: If some bytes are not UTF-8.
    """
    try:
        decoded = [one.decode() if isinstance(one, bytes) else str(one) for one in values.flat]
    except UnicodeDecodeError as error:
        raise InputError(f"Received bytes that are not text in UTF-8: {error}") from None
    array = np.empty(len(decoded), dtype=object)
    array[:] = decoded
    return array.reshape(values.shape)
