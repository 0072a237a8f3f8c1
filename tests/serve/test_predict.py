"""Predictions of a real server over HTTP, from ONNX and from a SavedModel."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest
import requests

pytestmark = pytest.mark.slow

PEOPLE = [
    {"colour": "red", "height": 1.5, "children": 2, "member": True},
    {"colour": "grün", "height": 2, "children": 0, "member": False},
]
SCORES = [[0.0, 1.0, 0.0, 1.5, 2.0, 1.0], [0.0, 0.0, 1.0, 2.0, 0.0, 0.0]]
LABELS = ["digit 4", "digit 3"]


def predict(server: Any, path: str, body: dict[str, Any]) -> dict[str, Any]:
    data = json.dumps(body)  # what requests makes of a body has no NaN
    answer = requests.post(f"{server.address}/v1/models/{path}:predict", data=data, timeout=60)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "application/json"
    return answer.json()


def test_two_thousand_digits_come_back_right(digits_server, digits) -> None:
    scores, labels = [], []
    for images in np.split(digits.images, 20):
        found = predict(digits_server, "digits", {"instances": images.tolist()})
        scores += found["predictions"]
        body = {"signature_name": "classify", "inputs": images.tolist()}
        labels += predict(digits_server, "digits", body)["outputs"]["label"]
    np.testing.assert_allclose(scores, digits.scores, atol=1e-4)
    assert labels == digits.labels


def test_one_signature_drops_the_name_of_its_output_the_other_has_rows(digits_server, digits):
    body = {"instances": digits.images[:2].tolist()}
    default = predict(digits_server, "digits", body)["predictions"]
    assert (
        predict(digits_server, "digits", {**body, "signature_name": ""})["predictions"] == default
    )
    rows = predict(digits_server, "digits", {**body, "signature_name": "classify"})["predictions"]
    assert [row["label"] for row in rows] == digits.labels[:2]
    assert [row["scores"] for row in rows] == default
    soft = np.exp(default) / np.exp(default).sum(axis=1, keepdims=True)
    np.testing.assert_allclose([row["probability"] for row in rows], soft.max(axis=1), rtol=1e-5)
    columns = {"inputs": {"pixels": body["instances"]}}
    assert predict(digits_server, "digits", columns) == {"outputs": default}


def test_floats_are_written_with_as_few_digits_as_give_the_same_float(digits_server, digits):
    [row] = predict(digits_server, "digits", {"instances": digits.images[:1].tolist()})[
        "predictions"
    ]
    assert all(value == float(str(np.float32(value))) for value in row)


@pytest.mark.parametrize(("version", "factor"), [(2, 2.0), (9, 3.0), (10, 1.0), (None, 1.0)])
def test_every_version_answers_and_the_newest_by_default(digits_server, digits, version, factor):
    path = "digits" if version is None else f"digits/versions/{version}"
    found = predict(digits_server, path, {"instances": digits.images[:1].tolist()})
    np.testing.assert_allclose(found["predictions"], digits.scores[:1] * factor, atol=1e-3)


def test_columns_of_a_table_take_words_numbers_and_booleans(people_server) -> None:
    assert predict(people_server, "people", {"instances": PEOPLE}) == {"predictions": SCORES}
    columns = {name: [row[name] for row in PEOPLE] for name in PEOPLE[0]}
    assert predict(people_server, "people", {"inputs": columns}) == {"outputs": SCORES}
    named = predict(people_server, "people", {"inputs": columns, "signature_name": "classify"})
    assert named["outputs"]["label"] == LABELS


def test_words_can_be_sent_as_base64(people_server) -> None:
    coded = [
        {**row, "colour": {"b64": base64.b64encode(row["colour"].encode()).decode()}}
        for row in PEOPLE
    ]
    assert predict(people_server, "people", {"instances": coded}) == {"predictions": SCORES}


def test_nan_and_infinity_pass_where_floats_can_be(people_server) -> None:
    body = {"instances": [{**PEOPLE[0], "height": float("nan")}]}
    assert np.isnan(predict(people_server, "people", body)["predictions"][0][3])
    body = {"instances": [{**PEOPLE[0], "height": float("-inf")}]}
    assert predict(people_server, "people", body)["predictions"][0][3] == -np.inf


def test_the_content_type_of_a_request_does_not_matter(digits_server, digits) -> None:
    data = json.dumps({"instances": digits.images[:3].tolist()})
    address = f"{digits_server.address}/v1/models/digits:predict"
    for headers in ({}, {"Content-Type": "text/plain"}, {"Content-Type": "application/x-tar"}):
        answer = requests.post(address, data=data, headers=headers, timeout=60)
        assert np.argmax(answer.json()["predictions"], axis=1).tolist() == (
            digits.scores[:3].argmax(axis=1).tolist()
        )


def test_the_path_is_read_as_tensorflow_serving_reads_it(digits_server, digits) -> None:
    address = f"{digits_server.address}/V1/Models/digits/Versions/0010:Predict?x=1"
    answer = requests.post(address, json={"inputs": digits.images[:1].tolist()}, timeout=60)
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "says"),
    [
        ("POST", "/v1/models/other:predict", 404, "Servable not found for request: Latest(other)"),
        (
            "POST",
            "/v1/models/digits/versions/3:predict",
            404,
            "Servable not found for request: Specific(digits, 3)",
        ),
        ("GET", "/v1/models/other", 404, "Could not find any versions of model other"),
        ("GET", "/v1/models/digits/versions/3", 404, "Could not find version 3 of model digits"),
        (
            "GET",
            "/v1/models/digits/versions/3/metadata",
            404,
            "Servable not found for request: Specific(digits, 3)",
        ),
        ("GET", "/v1/models/digits/versions/" + "9" * 5000, 400, "Failed to convert version: 999"),
        ("POST", "/v1/models/digits/labels/best:predict", 400, "version label: best"),
        ("POST", "/v1/models/digits:classify", 501, "Expected :predict"),
        ("GET", "/v1/models/digits:predict", 400, "Malformed request: GET /v1/models/digits:p"),
        ("POST", "/v1/models/digits", 400, "Malformed request: POST /v1/models/digits"),
        ("DELETE", "/v1/models/digits", 400, "Malformed request: DELETE /v1/models/digits"),
        ("POST", "/v1/models/digits/versions/x:predict", 400, "Malformed request: POST"),
        ("GET", "/v2/models/digits", 404, "Expected /v1/models/digits:predict"),
    ],
)
def test_a_path_to_nothing_is_answered_in_its_words(digits_server, method, path, status, says):
    answer = requests.request(method, digits_server.address + path, data="{}", timeout=60)
    assert answer.status_code == status
    assert says in answer.json()["error"]


def test_health(digits_server) -> None:
    answer = requests.get(f"{digits_server.address}/health", timeout=60)
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
