"""Turns JSON values into the array that a model's input expects, or says why they are none."""

from __future__ import annotations

import base64
import binascii
import itertools
import json
from array import array
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsweep.runtimes.base import InputError, Tensor

#: A message quotes no more characters of a value.
_QUOTED = 60
#: A message says no more than this many dimensions of a shape that does not fit.
_DIMENSIONS = 16
_SIGNS = (("", "bhiq"), ("u", "BHIQ"))
#: The codes that the module ``array`` has for types of integers.
_CODES = {f"{sign}int{8 << n}": code for sign, codes in _SIGNS for n, code in enumerate(codes)}
_JSON_TYPES = {
    type(None): "Null",
    int: "Number",
    float: "Number",
    str: "String",
    list: "Array",
    dict: "Object",
}


def to_array(values: object, tensor: Tensor, name: str) -> NDArray[Any]:
    """Converts a JSON value to an array.

    Args:
        values: Nested lists of numbers, booleans, strings or ``{"b64": text}``, or one of them.
        tensor: The input.
        name: Its name, for messages.

    Returns:
        An array of the input's type and shape; strings as objects, ``str`` or ``bytes``.

    Raises:
        InputError: If the shape does not fit, or a value is of another type or out of range.
    """
    expected = tensor.shape or ()
    shape = _shape(values)
    if not _fits(shape, expected):
        raise InputError(
            f"Received shape {_list(shape)} for the input {name!r}. "
            f"Expected {_list(expected)}, where -1 is any size from 1."
        )
    leaves = _leaves(values, len(shape), name)
    family = tensor.dtype.rstrip("0123456789")
    types, convert = _FAMILIES[family]
    _check_types(leaves, types, shape, tensor, name)
    try:
        return convert(leaves, tensor.dtype).reshape(shape)
    except _ValueRefusedError as refused:
        place = _place(leaves.index(refused.value), shape)
        raise InputError(f"{refused}, in the input {name!r} at {place}.") from None


class _ValueRefusedError(Exception):
    def __init__(self, value: object, reason: str) -> None:
        super().__init__(f"JSON Value: {_quote(value)} {reason}")
        self.value = value


def _shape(values: object) -> tuple[int, ...]:
    """Returns the shape, were all lists as long as the first ones."""
    shape: list[int] = []
    while isinstance(values, list) and len(shape) < _DIMENSIONS:
        shape.append(len(values))
        values = values[0] if values else None
    return tuple(shape)


def _fits(shape: tuple[int, ...], expected: tuple[int, ...]) -> bool:
    return len(shape) == len(expected) and all(
        size > 0 and wanted in (-1, size) for size, wanted in zip(shape, expected, strict=True)
    )


def _leaves(values: object, rank: int, name: str) -> list[Any]:
    """Flattens lists of one shape, level by level: no recursion, and the loops are NumPy's speed.

    Raises:
        InputError: If two lists of a level differ in length, or one of its items is no list.
    """
    level: list[Any] = [values]
    for depth in range(rank):
        if set(map(type, level)) != {list}:
            odd = next(one for one in level if type(one) is not list)
            raise InputError(
                f"JSON Value: {_quote(odd)} found at incorrect level: {depth} in the input "
                f"{name!r}. Expected at level: {rank}"
            )
        if len(sizes := set(map(len, level))) > 1:
            size = len(level[0])
            odd_size = next(len(one) for one in level if len(one) != size)
            raise InputError(
                f"Encountered list at unexpected size: {odd_size} at level: {depth} expected "
                f"size: {size}, in the input {name!r} (sizes there: {_list(sorted(sizes)[:5])})"
            )
        level = list(itertools.chain.from_iterable(level))
    return level


def _check_types(
    leaves: list[Any], types: set[type], shape: tuple[int, ...], tensor: Tensor, name: str
) -> None:
    if set(map(type, leaves)) <= types:
        return
    index, odd = next((i, one) for i, one in enumerate(leaves) if type(one) not in types)
    kind = str(odd) if isinstance(odd, bool) else _JSON_TYPES[type(odd)]
    raise InputError(
        f"JSON Value: {_quote(odd)} Type: {kind} is not of expected type: "
        f"{tensor.dtype}, in the input {name!r} at {_place(index, shape)}."
    )


def _booleans(leaves: list[Any], dtype: str) -> NDArray[Any]:
    return np.array(leaves, dtype)


def _integers(leaves: list[Any], dtype: str) -> NDArray[Any]:
    try:
        return np.array(array(_CODES[dtype], leaves))  # unlike NumPy 1, it checks the range
    except OverflowError:
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
        value = next(one for one in leaves if not low <= one <= high)
        reason = f"is out of the range of {dtype}, {low} to {high}"
        raise _ValueRefusedError(value, reason) from None


def _floats(leaves: list[Any], dtype: str) -> NDArray[Any]:
    largest = float(np.finfo(dtype).max)
    try:
        with np.errstate(over="ignore"):
            exact = np.array(leaves, np.float64)
            rounded = exact.astype(dtype)
    except OverflowError:
        huge = next(one for one in leaves if type(one) is int and abs(one) > largest)
        raise _ValueRefusedError(huge, f"is out of the range of {dtype}") from None
    if (np.isinf(rounded) & np.isfinite(exact)).any():
        huge = next(one for one in leaves if largest < abs(one) < np.inf)
        raise _ValueRefusedError(huge, f"is out of the range of {dtype}")
    return rounded


def _strings(leaves: list[Any], dtype: str) -> NDArray[Any]:  # noqa: ARG001 - there is one type
    strings = np.empty(len(leaves), dtype=object)
    strings[:] = [_string(one) for one in leaves]
    return strings


def _string(value: Any) -> str | bytes:
    if isinstance(value, str):
        if not value.isascii() and any("\ud800" <= one <= "\udfff" for one in value):
            raise _ValueRefusedError(value, "has half a surrogate pair, which is no text")
        return value
    if value.keys() != {"b64"} or not isinstance(value["b64"], str):
        raise _ValueRefusedError(value, 'not formatted correctly. Expected {"b64": "<base64>"}')
    try:
        return base64.b64decode(value["b64"], validate=True)
    except (binascii.Error, ValueError):
        raise _ValueRefusedError(value, "cannot be decoded as base64") from None


_FAMILIES: dict[str, tuple[set[type], Callable[[list[Any], str], NDArray[Any]]]] = {
    "bool": ({bool}, _booleans),
    "int": ({int}, _integers),
    "uint": ({int}, _integers),
    "float": ({int, float}, _floats),
    "string": ({str, dict}, _strings),
}
#: The types that an input may have, without their number of bits.
FAMILIES = tuple(_FAMILIES)


def _place(index: int, shape: tuple[int, ...]) -> str:
    return _list(int(one) for one in np.unravel_index(index, shape))


def _list(sizes: Any) -> str:
    return f"[{','.join(map(str, sizes))}]"


def _quote(value: object) -> str:
    if isinstance(value, list):
        return "[…]"
    text = json.dumps(value)
    return text if len(text) <= _QUOTED else f"{text[:_QUOTED]}…"
