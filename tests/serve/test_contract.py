"""JSON to arrays and back, without a server."""

from __future__ import annotations

import json

import numpy as np
import pytest

from dlsweep.runtimes.base import DEFAULT, InputError, Signature, Tensor, texts
from dlsweep.serve.contract import answer, parse

INTEGERS = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]


def read(text: str, dtype: str, shape: tuple[int, ...] = (-1,)) -> np.ndarray:
    signatures = {DEFAULT: Signature({"x": Tensor("x:0", dtype, shape)}, {})}
    return parse(f'{{"inputs": {text}}}'.encode(), signatures).inputs["x"]


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers_are_exact_and_have_a_range(dtype: str) -> None:
    low, high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    found = read(f"[{low}, {high}, 1]", dtype)
    assert found.dtype == dtype
    assert found.tolist() == [low, high, 1]
    for value in (low - 1, high + 1):
        with pytest.raises(InputError, match=r"out of the range of|not of expected type"):
            read(f"[1, {value}]", dtype)


@pytest.mark.parametrize(("dtype", "huge"), [("float16", "7e4"), ("float32", "-4e38")])
def test_floats_have_a_range(dtype: str, huge: str) -> None:
    assert read("[1, 2.5]", dtype).tolist() == [1.0, 2.5]
    with pytest.raises(InputError, match=r"is out of the range of float\d\d, in the input 'x' at"):
        read(f"[1, {huge}]", dtype)


def test_doubles_take_the_infinity_that_is_written_but_not_the_one_that_is_computed() -> None:
    assert read("[1e308, Infinity]", "float64").tolist() == [1e308, np.inf]
    with pytest.raises(InputError, match="Number too big"):
        read("[1e308, 1e309]", "float64")


def test_an_input_without_dimensions_is_one_value() -> None:
    assert read("3", "int64", ()).shape == ()
    with pytest.raises(InputError, match=r"Received shape \[1\].*Expected \[\]"):
        read("[3]", "int64", ())


def test_a_shape_is_quoted_in_part_however_deep_it_is() -> None:
    with pytest.raises(InputError) as raised:
        read("[" * 900 + "1" + "]" * 900, "int64")
    assert len(str(raised.value)) < 200


def test_words_may_contain_anything_that_is_text() -> None:
    words = ["", "naïve", "日本", "\0", "a'b"]
    assert read(json.dumps(words), "string").tolist() == words
    assert read('[{"b64": "/w=="}, "a"]', "string").tolist() == [b"\xff", "a"]


def test_bytes_that_are_no_text_are_refused_as_a_word() -> None:
    words = np.array([b"\xff", "a"], dtype=object)
    with pytest.raises(InputError, match="not text in UTF-8"):
        texts(words)
    assert texts(np.array([["é".encode(), "a"]], dtype=object)).tolist() == [["é", "a"]]


def test_strings_of_an_output_named_bytes_are_written_as_base64() -> None:
    pictures = {"picture_bytes": np.array([b"\xff", b""], dtype=object)}
    assert json.loads(answer(pictures, by_row=True)) == {
        "predictions": [{"b64": "/w=="}, {"b64": ""}]
    }


def test_answers_keep_types_and_dimensions() -> None:
    outputs = {
        "half": np.array([[0.1], [2]], np.float16),
        "float": np.array([0.1, np.nan], np.float32),
        "double": np.array([0.1, 1e300]),
        "whole": np.array([1, 2], np.uint8),
        "is": np.array([True, False]),
        "word": np.array(["a", b"b"], dtype=object),
    }
    text = answer(outputs, by_row=False).decode()
    assert '"half": [[0.1], [2.0]]' in text
    assert '"float": [0.1, NaN]' in text
    assert '"double": [0.1, 1e+300], "whole": [1, 2], "is": [true, false]' in text
    assert '"word": ["a", "b"]' in text
