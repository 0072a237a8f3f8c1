"""Status and metadata parse as the protocol buffers of TensorFlow Serving, field by field.

The package with these protocol buffers requires the large build of TensorFlow, which the tests
do not need. So it is no part of the extra ``test``; install it with

    pip install --no-deps -c constraints.txt tensorflow-serving-api

Without it, TensorFlow's own protocol buffers still parse each signature; only what Serving wraps
around it is not checked.
"""

from __future__ import annotations

import json

import pytest
import requests
from google.protobuf import json_format
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

pytestmark = pytest.mark.slow

EXPECTED = {
    "digits": {"pixels": ("DT_UINT8", [-1, 28, 28])},
    "people": {
        "colour": ("DT_STRING", [-1]),
        "height": ("DT_FLOAT", [-1]),
        "children": ("DT_INT64", [-1]),
        "member": ("DT_BOOL", [-1]),
    },
}
OUTPUTS = {"serving_default": ["scores"], "classify": ["label", "probability", "scores"]}


def get(server, path: str) -> str:
    answer = requests.get(f"{server.address}/v1/models/{path}", timeout=60)
    assert answer.status_code == 200
    return answer.text


def check(name: str, signatures: dict[str, SignatureDef]) -> None:
    assert sorted(signatures) == sorted(OUTPUTS)
    for key, signature in signatures.items():
        assert signature.method_name == "tensorflow/serving/predict"
        assert sorted(signature.outputs) == OUTPUTS[key]
        assert {
            name: (
                type(one)
                .DESCRIPTOR.fields_by_name["dtype"]
                .enum_type.values_by_number[one.dtype]
                .name,
                [dim.size for dim in one.tensor_shape.dim],
            )
            for name, one in signature.inputs.items()
        } == EXPECTED[name]


def test_each_signature_is_a_signature_def(digits_server, people_server) -> None:
    for name, server in (("digits", digits_server), ("people", people_server)):
        metadata = json.loads(get(server, f"{name}/metadata"))["metadata"]
        found = metadata["signature_def"]["signature_def"]
        check(name, {key: json_format.ParseDict(one, SignatureDef()) for key, one in found.items()})


def test_serving_parses_the_metadata(people_server, digits_server) -> None:
    reason = "pip install --no-deps tensorflow-serving-api"
    proto = pytest.importorskip("tensorflow_serving.apis.get_model_metadata_pb2", reason=reason)
    for name, server in (("digits", digits_server), ("people", people_server)):
        answer = json_format.Parse(
            get(server, f"{name}/metadata"), proto.GetModelMetadataResponse()
        )
        version = {"digits": 10, "people": 1}[name]
        assert (answer.model_spec.name, answer.model_spec.version.value) == (name, version)
        signatures = proto.SignatureDefMap()
        assert answer.metadata["signature_def"].Unpack(signatures)
        check(name, dict(signatures.signature_def))


def test_serving_parses_the_status(digits_server) -> None:
    reason = "pip install --no-deps tensorflow-serving-api"
    proto = pytest.importorskip("tensorflow_serving.apis.get_model_status_pb2", reason=reason)
    for path, versions in (("digits", [10, 9, 2]), ("digits/versions/2", [2])):
        status = json_format.Parse(get(digits_server, path), proto.GetModelStatusResponse())
        assert [one.version for one in status.model_version_status] == versions
        available = proto.ModelVersionStatus.State.Value("AVAILABLE")
        assert {one.state for one in status.model_version_status} == {available}
        assert {one.status.error_code for one in status.model_version_status} == {0}
