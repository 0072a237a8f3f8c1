"""TensorFlow Serving's JSON: reads the body of a prediction request, and writes the answer."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from dlsweep.errors import did_you_mean
from dlsweep.runtimes.base import DEFAULT, InputError, Signature, Tensor, texts
from dlsweep.serve.tensors import to_array

#: The end of an output's name that asks for its strings as base64.
_BYTES = "_bytes"


@dataclass(frozen=True)
class Call:
    """What a request asks for.

    Attributes:
        signature: The name of the signature to run.
        inputs: An array for each input.
        by_row: Whether the request has ``instances``, so the answer has ``predictions``, one for
            each; otherwise it has ``inputs``, and the answer ``outputs``.
    """

    signature: str
    inputs: dict[str, NDArray[Any]]
    by_row: bool


def parse(body: bytes, signatures: Mapping[str, Signature]) -> Call:
    """Reads the body of a request for predictions.

    Args:
        body: JSON, such as ``{"signature_name": "classify", "instances": [...]}``.
        signatures: Those of the model.

    Raises:
        InputError: If it is not JSON, lacks something, or does not fit the signature.
    """
    request = _read_json(body)
    name = request.get("signature_name", DEFAULT)
    if not isinstance(name, str):
        raise InputError("'signature_name' key must be a string value.")
    name = name or DEFAULT
    if name not in signatures:
        raise InputError(
            f'Serving signature name: "{name[:80]}" not found in signature def. '
            f"There are: {', '.join(signatures)}.{did_you_mean(name[:80], signatures)}"
        )
    by_row = "instances" in request
    if by_row == ("inputs" in request):
        raise InputError(
            "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist"
            if by_row
            else "Missing 'inputs' or 'instances' key"
        )
    wanted = signatures[name].inputs
    given = _columns(request["instances"], wanted) if by_row else _named(request["inputs"], wanted)
    inputs = {key: to_array(given[key], tensor, key) for key, tensor in wanted.items()}
    _check_batch(inputs)
    _check_infinity(inputs, body)
    return Call(name, inputs, by_row)


def _read_json(body: bytes) -> dict[str, Any]:
    if not body:
        raise InputError("JSON Parse error: The document is empty")
    try:
        request = _decode(body)
    except UnicodeDecodeError as error:
        raise InputError(f"JSON Parse error: not UTF-8 at offset: {error.start}") from None
    except json.JSONDecodeError as error:
        raise InputError(f"JSON Parse error: {error.msg} at offset: {error.pos}") from None
    except RecursionError:
        raise InputError("JSON Parse error: lists or objects are nested too deep") from None
    except ValueError:
        raise InputError("JSON Parse error: an integer has too many digits") from None
    if not isinstance(request, dict):
        raise InputError('JSON Value: Is not object. Expected {"instances": [...]}')
    return request


def _decode(body: bytes) -> Any:
    try:
        return orjson.loads(body)  # three times as fast
    except orjson.JSONDecodeError:
        return json.loads(body.decode())  # TensorFlow Serving takes NaN, which is not JSON


def _is_base64(value: object) -> bool:
    return isinstance(value, dict) and value.keys() == {"b64"}


def _columns(instances: object, wanted: Mapping[str, Tensor]) -> Mapping[str, object]:
    """Returns the values of each input, from a list of examples."""
    if not isinstance(instances, list):
        raise InputError("Expecting 'instances' to be an list/array")
    if not instances:
        raise InputError("No values in 'instances' array")
    if not isinstance(instances[0], dict) or (_is_base64(instances[0]) and "b64" not in wanted):
        return {
            _only(wanted, "instances is a plain list, but expecting list of objects"): instances
        }
    for number, row in enumerate(instances):
        if not isinstance(row, dict):
            raise InputError(f"Expecting object but got list at item {number} of input list")
        if row.keys() != wanted.keys():
            raise InputError(
                f"Failed to process element: {number} of 'instances' list. JSON object: keys must "
                f"be equal to: {','.join(wanted)}. {_difference(row, wanted)}"
            )
    return {name: [row[name] for row in instances] for name in wanted}


def _named(inputs: object, wanted: Mapping[str, Tensor]) -> Mapping[str, object]:
    """Returns the values of each input, from an object of inputs or a single one's values."""
    if not isinstance(inputs, dict) or (_is_base64(inputs) and "b64" not in wanted):
        return {_only(wanted, "inputs is a plain value/list, but expecting an object"): inputs}
    for name in wanted:
        if name not in inputs:
            raise InputError(
                f"Missing named input: {name} in 'inputs' object. {_difference(inputs, wanted)}"
            )
    if inputs.keys() != wanted.keys():
        raise InputError(
            f"'inputs' object: keys must be equal to: {','.join(wanted)}. "
            f"{_difference(inputs, wanted)}"
        )
    return inputs


def _only(wanted: Mapping[str, Tensor], otherwise: str) -> str:
    if len(wanted) > 1:
        raise InputError(f"{otherwise} as multiple input tensors required: {','.join(wanted)}")
    return next(iter(wanted))


def _difference(given: Mapping[str, object], wanted: Mapping[str, Tensor]) -> str:
    missing = [name for name in wanted if name not in given]
    unknown = [name[:80] for name in given if name not in wanted][:5]
    said = [f"Missing: {', '.join(missing)}."] if missing else []
    said += [f"Unknown: {', '.join(map(repr, unknown))}."] if unknown else []
    return " ".join(said) + (did_you_mean(unknown[0], wanted) if unknown else "")


def _check_batch(inputs: Mapping[str, NDArray[Any]]) -> None:
    sizes = {name: len(values) for name, values in inputs.items() if values.ndim}
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise InputError(f"Inputs have inconsistent batch sizes: {listed}. Expected one for all.")


def _check_infinity(inputs: Mapping[str, NDArray[Any]], body: bytes) -> None:
    """Refuses numbers such as 1e999, which Python reads as infinity."""
    floats = [values for values in inputs.values() if values.dtype.kind == "f"]
    if any(np.isinf(values).any() for values in floats) and b"Infinity" not in body:
        raise InputError("JSON Parse error: Number too big to be stored in double")


def answer(outputs: Mapping[str, NDArray[Any]], by_row: bool) -> bytes:
    """Writes an answer as JSON.

    Args:
        outputs: The model's outputs; a single one is written without its name.
        by_row: Whether to write an element for each example, or each output as a whole.

    Raises:
        InputError: If rows are wanted and the outputs do not have one for each example.
    """
    if by_row:
        return _dump({"predictions": list(_rows(outputs))})
    values = {name: _values(name, array) for name, array in outputs.items()}
    return _dump({"outputs": values if len(values) > 1 else next(iter(values.values()))})


def _rows(outputs: Mapping[str, NDArray[Any]]) -> Iterator[Any]:
    sizes = {name: len(array) if array.ndim else None for name, array in outputs.items()}
    if None in sizes.values() or len(set(sizes.values())) > 1:
        raise InputError(
            f"The outputs have no row for each instance: {sizes}. Send 'inputs', not 'instances'."
        )
    columns = [_values(name, array) for name, array in outputs.items()]
    if len(columns) == 1:
        return iter(columns[0])
    return (dict(zip(outputs, row, strict=True)) for row in zip(*columns, strict=True))


def _values(name: str, array: NDArray[Any]) -> Any:
    """Returns an output as lists; floats have the fewest digits that give the same float."""
    if array.dtype.kind == "f" and array.dtype != np.float64:
        return array.astype("U").astype(np.float64).tolist()
    if array.dtype.kind != "O":
        return array.tolist()
    if not name.endswith(_BYTES):
        return texts(array).tolist()
    coded = [{"b64": base64.b64encode(_encoded(one)).decode()} for one in array.flat]
    whole = np.empty(len(coded), dtype=object)
    whole[:] = coded
    return whole.reshape(array.shape).tolist()


def _encoded(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value


def _dump(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def error(text: str) -> bytes:
    """Writes an error's answer."""
    return json.dumps({"error": text}).encode()
