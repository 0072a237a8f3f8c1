"""Completes an exported ONNX graph: words in front, labels behind, smaller numbers, no paths."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, compose, helper, numpy_helper

from dlsweep.export.quantize import quantize
from dlsweep.trainers.exporting import INPUT, LABEL, PROBABILITY, SCORES, ExportSpec

#: The version of ONNX's machine learning operators, for words.
_ML_DOMAIN, _ML_OPSET = "ai.onnx.ml", 3
#: The prefix of names within the graph, so that a column may have any name.
_PREFIX = "model/"


def complete(path: Path, spec: ExportSpec) -> None:
    """Completes the graph that a framework has written.

    Args:
        path: The ONNX file, with encoded inputs and the output ``scores``. It is replaced.
        spec: What the model takes and returns.

    Raises:
        ExportError: If it cannot be quantized.
    """
    if spec.quantization:
        quantize(path, spec)
    model = onnx.load(path)
    _strip(model)
    if spec.has_words:
        model = _with_words(model, spec)
    if spec.labels:
        _add_labels(model, spec)
    helper.set_model_props(model, dict(spec.files))
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def _strip(model: onnx.ModelProto) -> None:
    """Removes what the exporter has noted on the source: names of files, stack traces."""
    del model.metadata_props[:]
    model.doc_string = model.graph.doc_string = ""
    for part in _parts(model.graph):
        del part.metadata_props[:]
        part.doc_string = ""


def _parts(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Yields everything in a graph that has metadata."""
    yield graph
    yield from (*graph.input, *graph.output, *graph.value_info, *graph.initializer)
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _parts(attribute.g)


def _with_words(model: onnx.ModelProto, spec: ExportSpec) -> onnx.ModelProto:
    """Replaces the encoded input by one input for each column, of shape [batch]."""
    del model.graph.value_info[:]  # or the prefix would also change the names of the outputs
    model = compose.add_prefix(model, _PREFIX, rename_outputs=False)
    graph = model.graph
    inputs, nodes, parts = [], [], []
    for name, column in zip(spec.arguments, spec.columns, strict=True):
        kind = TensorProto.STRING if column.words else TensorProto.FLOAT
        inputs.append(helper.make_tensor_value_info(name, kind, ["batch"]))
        parts.append(f"{_PREFIX}encoded/{name}")
        if column.words:  # an unknown word is an error, by zeros=0
            nodes.append(
                helper.make_node(
                    "OneHotEncoder",
                    [name],
                    parts[-1:],
                    name=f"words of {name}",
                    domain=_ML_DOMAIN,
                    cats_strings=list(column.words),
                    zeros=0,
                )
            )
        else:
            axes = f"{_PREFIX}axes"
            nodes.append(helper.make_node("Unsqueeze", [name, axes], parts[-1:]))
    graph.initializer.append(numpy_helper.from_array(np.array([1]), f"{_PREFIX}axes"))
    nodes.append(helper.make_node("Concat", parts, [_PREFIX + INPUT], axis=1))
    behind = list(graph.node)
    del graph.input[:], graph.node[:]
    graph.input.extend(inputs)
    graph.node.extend([*nodes, *behind])
    model.opset_import.append(helper.make_opsetid(_ML_DOMAIN, _ML_OPSET))
    return model


def _add_labels(model: onnx.ModelProto, spec: ExportSpec) -> None:
    """Adds the class with the highest score and its probability to the outputs."""
    graph = model.graph
    labels, axes, probabilities, best = (
        f"labels/{name}" for name in ("names", "axes", "probabilities", "best")
    )
    names = np.array(spec.labels, dtype=object)
    graph.initializer.extend(
        [numpy_helper.from_array(names, labels), numpy_helper.from_array(np.array([1]), axes)]
    )
    graph.node.extend(
        [
            helper.make_node("Softmax", [SCORES], [probabilities], axis=1),
            helper.make_node("ReduceMax", [probabilities, axes], [PROBABILITY], keepdims=0),
            helper.make_node("ArgMax", [SCORES], [best], axis=1, keepdims=0),
            helper.make_node("Gather", [labels, best], [LABEL]),
        ]
    )
    graph.output.extend(
        [
            helper.make_tensor_value_info(LABEL, TensorProto.STRING, ["batch"]),
            helper.make_tensor_value_info(PROBABILITY, TensorProto.FLOAT, ["batch"]),
        ]
    )
