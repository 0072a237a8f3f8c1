"""Exports made by hand, as ONNX and as SavedModel, and real servers for them."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    import onnx

FORMATS = ("onnx", "savedmodel")
NAMES = [f"digit {number}" for number in range(10)]
COLOURS = ["blue", "red", "grün"]


@dataclass(frozen=True)
class Server:
    """A server's process, and where it answers."""

    process: subprocess.Popen[str]
    address: str
    said: str


@dataclass(frozen=True)
class Digits:
    """A linear classifier of raw digits, and what it says of real ones."""

    weights: np.ndarray
    images: np.ndarray

    @property
    def scores(self) -> np.ndarray:
        return self.images.reshape(len(self.images), -1).astype(np.float32) @ self.weights

    @property
    def labels(self) -> list[str]:
        return [NAMES[best] for best in self.scores.argmax(axis=1)]


@pytest.fixture(scope="session")
def digits() -> Digits:
    """A classifier that is right for most digits: least squares of 2,000 others."""
    from dlsweep.data import mnist

    split = mnist().train
    flat = split.inputs[2000:4000].reshape(2000, -1).astype(np.float64)
    wanted = np.eye(10)[split.targets[2000:4000]]
    weights = np.linalg.solve(flat.T @ flat + 1e6 * np.eye(784), flat.T @ wanted)
    return Digits(weights.astype(np.float32), split.inputs[:2000].reshape(2000, 28, 28))


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory, digits: Digits) -> Path:
    """Two models, each as ONNX and as SavedModel; of the digits there are three versions."""
    folder = tmp_path_factory.mktemp("exports")
    for version, factor in ((2, 2.0), (10, 1.0), (9, 3.0)):
        weights = digits.weights * np.float32(factor)
        write_onnx(digits_onnx(weights), folder / "digits" / "onnx" / str(version))
        digits_saved_model(weights, folder / "digits" / "savedmodel" / str(version))
    write_onnx(people_onnx(), folder / "people" / "onnx" / "1")
    people_saved_model(folder / "people" / "savedmodel" / "1")
    (folder / "digits" / "onnx" / ".10.aside").mkdir()  # as an export that is being written
    return folder


def write_onnx(model: onnx.ModelProto, version: Path) -> None:
    import onnx

    onnx.checker.check_model(model)
    version.mkdir(parents=True)
    onnx.save(model, version / "model.onnx")
    (version / "parity.json").write_text("{}")
    (version / "export.json").write_text("{}")


def make_onnx(nodes: list[Any], inputs: list[Any], initializers: list[Any]) -> onnx.ModelProto:
    """Appends label and probability to nodes that compute ``scores``."""
    from onnx import TensorProto, helper, numpy_helper

    names = [name.encode() for name in NAMES]
    nodes = [
        *nodes,
        helper.make_node("Softmax", ["scores"], ["soft"], axis=-1),
        helper.make_node("ReduceMax", ["soft", "last"], ["probability"], keepdims=0),
        helper.make_node("ArgMax", ["scores"], ["best"], axis=-1, keepdims=0),
        helper.make_node("Gather", ["names", "best"], ["label"]),
    ]
    outputs = [
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", "classes"]),
        helper.make_tensor_value_info("label", TensorProto.STRING, ["batch"]),
        helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["batch"]),
    ]
    initializers = [
        *initializers,
        numpy_helper.from_array(np.array([-1]), "last"),
        helper.make_tensor("names", TensorProto.STRING, [len(names)], names),
    ]
    graph = helper.make_graph(nodes, "model", inputs, outputs, initializers)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("ai.onnx.ml", 4)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def digits_onnx(weights: np.ndarray) -> onnx.ModelProto:
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("Cast", ["pixels"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["floats"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["scores"]),
    ]
    inputs = [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["batch", 28, 28])]
    return make_onnx(nodes, inputs, [numpy_helper.from_array(weights, "weights")])


def people_onnx() -> onnx.ModelProto:
    """Scores of a person: its colour as one of three, its height, its number of children."""
    from onnx import TensorProto, helper, numpy_helper

    columns = [("colour", TensorProto.STRING), ("height", TensorProto.FLOAT)]
    columns += [("children", TensorProto.INT64), ("member", TensorProto.BOOL)]
    numbers = [name for name, kind in columns[1:]]
    nodes = [
        helper.make_node(
            "OneHotEncoder", ["colour"], ["hot"], domain="ai.onnx.ml", cats_strings=COLOURS, zeros=0
        )
    ]
    for name in numbers:
        nodes += [
            helper.make_node("Cast", [name], [f"{name} float"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", [f"{name} float", "one"], [f"{name} column"]),
        ]
    row = ["hot", *(f"{name} column" for name in numbers)]
    nodes.append(helper.make_node("Concat", row, ["scores"], axis=1))
    inputs = [helper.make_tensor_value_info(name, kind, ["batch"]) for name, kind in columns]
    return make_onnx(nodes, inputs, [numpy_helper.from_array(np.array([1]), "one")])


def save_model(scores: Callable[..., Any], inputs: list[Any], version: Path) -> None:
    """Saves a function of tensors with the signatures of an export."""
    import tensorflow as tf

    names = tf.constant(NAMES)

    class Classifier(tf.Module):
        @tf.function(input_signature=inputs)
        def default(self, *values: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"scores": scores(*values)}

        @tf.function(input_signature=inputs)
        def classify(self, *values: tf.Tensor) -> dict[str, tf.Tensor]:
            found = scores(*values)
            return {
                "label": tf.gather(names, tf.argmax(found, axis=-1)),
                "probability": tf.reduce_max(tf.nn.softmax(found), axis=-1),
                "scores": found,
            }

    model = Classifier()
    signatures = {"serving_default": model.default, "classify": model.classify}
    tf.saved_model.save(model, str(version), signatures)


def digits_saved_model(weights: np.ndarray, version: Path) -> None:
    import tensorflow as tf

    def scores(pixels: tf.Tensor) -> tf.Tensor:
        return tf.reshape(tf.cast(pixels, tf.float32), [-1, 784]) @ weights

    save_model(scores, [tf.TensorSpec([None, 28, 28], tf.uint8, "pixels")], version)


def people_saved_model(version: Path) -> None:
    import tensorflow as tf

    def scores(
        colour: tf.Tensor, height: tf.Tensor, children: tf.Tensor, member: tf.Tensor
    ) -> tf.Tensor:
        hot = tf.cast(tf.equal(colour[:, None], COLOURS), tf.float32)
        known = tf.debugging.Assert(
            tf.reduce_all(tf.reduce_sum(hot, axis=1) == 1), ["colour: unknown word", colour]
        )
        with tf.control_dependencies([known]):
            floats = [tf.cast(one, tf.float32)[:, None] for one in (height, children, member)]
            return tf.concat([hot, *floats], axis=1)

    specs = {"colour": tf.string, "height": tf.float32, "children": tf.int64, "member": tf.bool}
    save_model(scores, [tf.TensorSpec([None], kind, name) for name, kind in specs.items()], version)


@contextlib.contextmanager
def serving(folder: Path, *arguments: str) -> Iterator[Server]:
    """Runs ``python -m dlsweep serve`` on a free port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dlsweep", "serve", str(folder), "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stderr
    try:
        line = process.stdout.readline()
        assert line, process.stderr.read()
        yield Server(process, line.split()[-1].partition("/v1")[0], line)
    finally:
        process.terminate()
        process.communicate(timeout=60)


@pytest.fixture(scope="session")
def serve() -> Callable[..., AbstractContextManager[Server]]:
    """Starts a server of a test's own."""
    return serving


@pytest.fixture(scope="session")
def running(exports: Path) -> Iterator[Callable[[str, str], Server]]:
    """The server of a model in a format, which starts when a test first asks for it."""
    with contextlib.ExitStack() as ends:
        yield cache(lambda name, form: ends.enter_context(serving(exports / name / form)))


@pytest.fixture(params=FORMATS)
def digits_server(request: pytest.FixtureRequest, running: Callable[[str, str], Server]) -> Server:
    return running("digits", request.param)


@pytest.fixture(params=FORMATS)
def people_server(request: pytest.FixtureRequest, running: Callable[[str, str], Server]) -> Server:
    return running("people", request.param)
