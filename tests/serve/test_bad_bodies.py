"""Bodies that cannot be answered: each gets its 4xx with a sentence, and the server lives on."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass, field

import pytest
import requests

pytestmark = pytest.mark.slow

IMAGE = [[0] * 28 for _ in range(28)]
PERSON = {"colour": "red", "height": 1.5, "children": 2, "member": True}


@dataclass(frozen=True)
class Bad:
    """A body, and what the answer to it says."""

    name: str
    body: object
    says: tuple[str, ...]
    status: int = 400
    headers: dict[str, str] = field(default_factory=dict)


def pixel(value: object) -> dict[str, object]:
    """A body of two images; the value is a pixel of the second."""
    other = [list(row) for row in IMAGE]
    other[3][5] = value
    return {"instances": [IMAGE, other]}


def person(**values: object) -> dict[str, object]:
    return {"instances": [PERSON, {**PERSON, **values}]}


def columns(**values: object) -> dict[str, object]:
    return {"inputs": {**{name: [one] for name, one in PERSON.items()}, **values}}


def raw(value: str) -> bytes:
    """A body whose only pixel of another kind is this JSON text."""
    return json.dumps(pixel("HERE")).replace('"HERE"', value).encode()


def not_of_type(value: str, kind: str, dtype: str = "uint8") -> tuple[str, ...]:
    return (f"JSON Value: {value} Type: {kind} is not of expected type: {dtype}",)


DIGITS = [
    Bad("an empty body", b"", ("JSON Parse error: The document is empty",)),
    Bad("no JSON", b"pixels=1", ("JSON Parse error: Expecting value at offset: 0",)),
    Bad("half of the JSON", b'{"instances": [[1, 2', ("JSON Parse error:", "at offset: 20")),
    Bad("not UTF-8", b'{"instances": "\xff"}', ("not UTF-8 at offset: 15",)),
    Bad("UTF-16", '{"instances": []}'.encode("utf-16"), ("not UTF-8 at offset: 0",)),
    Bad("compressed", gzip.compress(b"{}"), ("not UTF-8",)),
    Bad(
        "declared as compressed",
        gzip.compress(b"{}"),
        ("Content-Encoding: Received 'gzip'. Expected plain JSON",),
        415,
        {"Content-Encoding": "gzip"},
    ),
    Bad("lists 200,000 deep", b"[" * 200_000, ("nested too deep",)),
    Bad("objects 200,000 deep", b'{"instances":' * 200_000, ("nested too deep",)),
    Bad("an integer of 5,000 digits", raw("9" * 5000), ("an integer has too many digits",)),
    Bad("an integer of 4,000 digits", raw("9" * 4000), ("999…", "out of the range of uint8")),
    Bad("a list", b"[1, 2]", ("Is not object", '{"instances": [...]}')),
    Bad("a string", b'"instances"', ("Is not object",)),
    Bad("null", b"null", ("Is not object",)),
    Bad("neither key", {"instance": [IMAGE]}, ("Missing 'inputs' or 'instances' key",)),
    Bad("both keys", {"instances": [IMAGE], "inputs": [IMAGE]}, ("only one of 'inputs' or",)),
    Bad("instances of a number", {"instances": 5}, ("Expecting 'instances' to be an list",)),
    Bad("no instances", {"instances": []}, ("No values in 'instances' array",)),
    Bad("no inputs", {"inputs": []}, ("Received shape [0]", "Expected [-1,28,28]")),
    Bad("inputs of null", {"inputs": None}, ("Received shape []", "Expected [-1,28,28]")),
    Bad(
        "an unknown signature",
        {"instances": [IMAGE], "signature_name": "clasify"},
        ('Serving signature name: "clasify" not found in signature def', "mean 'classify'?"),
    ),
    Bad(
        "a signature that is a number",
        {"instances": [IMAGE], "signature_name": 1},
        ("'signature_name' key must be a string value",),
    ),
    Bad("one image, no batch", {"instances": IMAGE}, ("shape [28,28]", "Expected [-1,28,28]")),
    Bad("27 rows", {"instances": [IMAGE[1:]]}, ("Received shape [1,27,28]",)),
    Bad("a dimension too many", {"instances": [[IMAGE]]}, ("Received shape [1,1,28,28]",)),
    Bad("flat pixels", {"instances": [[0] * 784]}, ("Received shape [1,784]",)),
    Bad("empty rows", {"instances": [[[]] * 28]}, ("Received shape [1,28,0]",)),
    Bad(
        "a ragged row",
        {"instances": [IMAGE, [*IMAGE[1:], [0] * 27]]},
        ("Encountered list at unexpected size: 27 at level: 2 expected size: 28",),
    ),
    Bad(
        "an image that is a number",
        {"instances": [IMAGE, 7]},
        ("JSON Value: 7 found at incorrect level: 1", "Expected at level: 3"),
    ),
    Bad("a pixel that is a list", pixel([1]), (*not_of_type("[…]", "Array"), "at [1,3,5]")),
    Bad("300", pixel(300), ("300 is out of the range of uint8, 0 to 255", "at [1,3,5]")),
    Bad("-1", pixel(-1), ("-1 is out of the range of uint8, 0 to 255",)),
    Bad("1.5", pixel(1.5), not_of_type("1.5", "Number")),
    Bad("true", pixel(True), not_of_type("true", "True")),
    Bad("a pixel of null", pixel(None), not_of_type("null", "Null")),
    Bad("a pixel in quotes", pixel("12"), not_of_type('"12"', "String")),
    Bad("a pixel that is an object", pixel({"a": 1}), not_of_type('{"a": 1}', "Object")),
    Bad("NaN", raw("NaN"), not_of_type("NaN", "Number")),
    Bad("Infinity", raw("Infinity"), not_of_type("Infinity", "Number")),
    Bad("1e999", raw("1e999"), ("is not of expected type: uint8",)),
    Bad("base64 of pixels", {"instances": [{"b64": "AAAA"}]}, ("Received shape [1]",)),
    Bad("a long string", pixel("x" * 900_000), ("x…", "is not of expected type: uint8")),
    Bad(
        "an input of another name",
        {"inputs": {"pixel": [IMAGE]}},
        ("Missing named input: pixels", "Did you mean 'pixels'?"),
    ),
    Bad(
        "an object after a list",
        {"instances": [IMAGE, {"pixels": IMAGE}]},
        ("found at incorrect level: 1",),
    ),
    Bad(
        "a list after an object",
        {"instances": [{"pixels": IMAGE}, IMAGE]},
        ("Expecting object but got list at item 1 of input list",),
    ),
]
PEOPLE = [
    Bad("a word the model does not know", person(colour="mauve"), ("refuses the input",)),
    Bad("a word of another case", person(colour="Red"), ("refuses the input",)),
    Bad("a number for a word", person(colour=3), not_of_type("3", "Number", "string")),
    Bad("a broken base64", person(colour={"b64": "?"}), ("cannot be decoded as base64",)),
    Bad("an object for a word", person(colour={"text": "red"}), ("not formatted correctly",)),
    Bad("base64 of a number", person(colour={"b64": 3}), ("not formatted correctly",)),
    Bad("half a surrogate pair", person(colour="\ud800"), ("half a surrogate pair",)),
    Bad("a word for a float", person(height="tall"), not_of_type('"tall"', "String", "float32")),
    Bad("true for a float", person(height=True), not_of_type("true", "True", "float32")),
    Bad("1e39 for a float", person(height=1e39), ("1e+39 is out of the range of float32",)),
    Bad("an integer of 400 digits", person(height=10**400), ("out of the range of float32",)),
    Bad(
        "1e999 for a float",
        json.dumps(person(height="HERE")).replace('"HERE"', "1e999").encode(),
        ("Number too big to be stored in double",),
    ),
    Bad("1.0 for an int64", person(children=1.0), not_of_type("1.0", "Number", "int64")),
    Bad("NaN for an int64", person(children=float("nan")), not_of_type("NaN", "Number", "int64")),
    Bad("2**63 for an int64", person(children=2**63), ("out of the range of int64",)),
    Bad("1 for a boolean", person(member=1), not_of_type("1", "Number", "bool")),
    Bad("a list for a number", person(height=[1.5]), not_of_type("[…]", "Array", "float32")),
    Bad(
        "a person without a height",
        {"instances": [PERSON, {"colour": "red", "heigth": 1, "children": 2, "member": True}]},
        ("element: 1 of 'instances'", "Missing: height.", "'heigth'. Did you mean 'height'?"),
    ),
    Bad(
        "lists, where there are several inputs",
        {"instances": [["red", 1.5, 2, True]]},
        ("instances is a plain list, but expecting list of objects",),
    ),
    Bad(
        "a list, where there are several inputs",
        {"inputs": ["red"]},
        ("inputs is a plain value/list, but expecting an object",),
    ),
    Bad("a column too few", {"inputs": {"colour": ["red"]}}, ("Missing named input: ",)),
    Bad("a column too many", columns(age=[3]), ("Unknown: 'age'",)),
    Bad("columns of two lengths", columns(height=[1, 2]), ("inconsistent batch sizes",)),
    Bad("a column that is no list", columns(height=1), ("Received shape []", "Expected [-1]")),
]


def refused(server, name: str, bad: Bad) -> None:
    data = bad.body if isinstance(bad.body, bytes) else json.dumps(bad.body)
    address = f"{server.address}/v1/models/{name}:predict"
    answer = requests.post(address, data=data, headers=bad.headers, timeout=60)
    assert answer.status_code == bad.status, answer.text
    assert list(answer.json()) == ["error"]
    for part in bad.says:
        assert part in answer.json()["error"]
    assert len(answer.content) < 600, "the body is echoed"
    assert requests.get(f"{server.address}/health", timeout=60).status_code == 200


@pytest.mark.parametrize("bad", DIGITS, ids=lambda bad: bad.name)
def test_a_bad_body_is_refused_with_a_sentence(digits_server, bad: Bad) -> None:
    refused(digits_server, "digits", bad)


@pytest.mark.parametrize("bad", PEOPLE, ids=lambda bad: bad.name)
def test_a_bad_row_of_a_table_is_refused_with_a_sentence(people_server, bad: Bad) -> None:
    refused(people_server, "people", bad)


def test_there_are_forty_of_them() -> None:
    assert len({bad.name for bad in (*DIGITS, *PEOPLE)}) == len(DIGITS) + len(PEOPLE) >= 40
