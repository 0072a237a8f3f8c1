"""Keras models become SavedModel, LiteRT, ONNX and .keras files that take what the user has."""

from __future__ import annotations

import importlib
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlsweep.errors import ExportError

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "ignore:__array__ implementation:DeprecationWarning"
    ),  # TensorFlow's
]
ALL = ("savedmodel", "litert", "onnx", "keras")


def pixels() -> Any:
    return importlib.import_module("project").images().validation


def run_saved_model(folder: Path, signature: str, inputs: dict[str, Any]) -> dict[str, Any]:
    """Runs a SavedModel in a session, as TensorFlow Serving does."""
    import tensorflow as tf

    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        loaded = tf.compat.v1.saved_model.loader.load(session, ["serve"], str(folder))
        called = loaded.signature_def[signature]
        feeds = {called.inputs[name].name: value for name, value in inputs.items()}
        fetches = {name: one.name for name, one in called.outputs.items()}
        return session.run(fetches, feeds)


def run_litert(folder: Path, inputs: dict[str, Any]) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(folder / "model.tflite"))
    return interpreter.get_signature_runner("serving_default")(**inputs)["scores"]


def run_onnx(folder: Path, inputs: dict[str, Any]) -> list[Any]:
    import onnxruntime

    return onnxruntime.InferenceSession(folder / "model.onnx").run(None, inputs)


def test_raw_pixels_go_into_every_format(lab: Any) -> None:
    """Also of a model that was trained in bfloat16, which the runtimes lack."""
    import keras

    run = lab.trained("keras", "images", precision="bf16")
    found = {form: one.folder for form, one in lab.export(run.path, *ALL).items()}
    given = {"inputs": pixels().inputs}
    served = run_saved_model(found["savedmodel"], "classify", given)
    scores, label = served["scores"], [one.decode() for one in served["label"]]
    targets = np.array(["cat", "dog", "größe"])[pixels().targets]
    assert (np.array(label) == targets).mean() > 0.8, "the model has learned nothing"
    assert list(run_saved_model(found["savedmodel"], "serving_default", given)) == ["scores"]
    np.testing.assert_allclose(run_litert(found["litert"], given), scores, atol=1e-4)
    again, onnx_label, probability = run_onnx(found["onnx"], given)
    np.testing.assert_allclose(again, scores, atol=1e-4)
    assert onnx_label.tolist() == label
    np.testing.assert_allclose(probability, served["probability"], atol=1e-5)
    model = keras.saving.load_model(found["keras"] / "model.keras")
    np.testing.assert_allclose(model.predict(pixels().inputs, verbose=0), scores, atol=1e-4)
    for folder in found.values():
        assert not lab.names_of_this_machine(folder)
    with zipfile.ZipFile(found["litert"] / "model.tflite") as archive:
        assert archive.read("labels.txt").decode() == "cat\ndog\ngröße\n"


def test_a_table_takes_words_where_the_format_can(lab: Any) -> None:
    import tensorflow as tf

    run = lab.trained("keras", "table", epochs=60)
    found = lab.export(run.path, "savedmodel", "litert", "onnx")
    words = np.array(["red", "blå", "red"], dtype=object)
    given = {"colour__r_g_": words, "size": np.array([7, 7, 0], dtype=np.float32)}
    served = run_saved_model(found["savedmodel"].folder, "classify", given)
    assert served["label"].tolist() == [b"yes", b"no", b"no"]
    unknown = {**given, "colour__r_g_": np.array(["Red", "red", "red"], dtype=object)}
    with pytest.raises(tf.errors.InvalidArgumentError, match="colour__r_g_: Received an unknown"):
        run_saved_model(found["savedmodel"].folder, "classify", unknown)
    assert run_onnx(found["onnx"].folder, given)[1].tolist() == ["yes", "no", "no"]
    rows = np.array([[0, 0, 1, 7], [1, 0, 0, 7], [0, 0, 1, 0]], dtype=np.float32)
    scores = run_litert(found["litert"].folder, {"inputs": rows})
    np.testing.assert_allclose(scores, served["scores"], atol=1e-4)


def test_a_standardised_target_comes_back_in_its_own_units(lab: Any) -> None:
    options = {"loss": "mse", "monitor": "val/r2", "mode": "max", "epochs": 40}
    run = lab.trained("keras", "standardised", **options)
    data = importlib.import_module("project").standardised()
    error = json.loads((run.path / "data.json").read_text())["target_std"][0] / 2
    found = lab.export(run.path, "litert", "onnx", "keras")  # litert is made from a SavedModel
    for form, one in found.items():
        measured = one.report["mean_absolute_error"]
        assert measured["exported"] == pytest.approx(measured["trained"], rel=1e-3), form
        assert measured["exported"] < error, "far less than a model without the units"
    given = {"inputs": data.validation.inputs.astype(np.float32)}
    scores = run_litert(found["litert"].folder, given)
    assert np.abs(scores - data.validation.targets).mean() < error


def test_a_model_without_get_config_is_traced_but_has_no_file(lab: Any) -> None:
    run = lab.trained("keras", "images", model={"_target_": "project.subclassed"})
    *traced, file = lab.attempts(run.path, ["litert", "onnx", "keras"])
    assert not [one for one in traced if isinstance(one, ExportError)]
    assert "must override `get_config()`" in str(file)
    assert "Other formats of this run:  --to savedmodel,litert,onnx" in str(file)
    assert not list(Path("exports/study/keras").iterdir())


def test_a_run_on_the_torch_backend_is_rebuilt_on_tensorflow(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its formats are written by a process of the other backend: here, each comes from a child."""
    run = lab.trained("keras", "two_inputs")
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    found = lab.export(run.path, "savedmodel")
    inputs = importlib.import_module("project").two_inputs().validation.inputs
    given = {name: array.astype(np.float32) for name, array in inputs.items()}
    served = run_saved_model(found["savedmodel"].folder, "classify", given)
    assert served["scores"].shape == (30, 2)
    assert found["savedmodel"].parity.agreement == 1


def test_smaller_numbers_make_smaller_files(lab: Any) -> None:
    model = {"_target_": "dlsweep.keras.MLP", "hidden": 400}
    run = lab.trained("keras", "images", model=model)
    plain = lab.export(run.path, "litert")["litert"].report["size_bytes"]
    for quantization, share in (("float16", 0.6), ("dynamic", 0.4), ("int8", 0.4)):
        small = lab.export(run.path, "litert", quantization=quantization, tolerance=0.1)["litert"]
        assert small.report["size_bytes"] < share * plain, quantization
        assert small.parity.largest_difference > 0, quantization
        record = json.loads((small.folder / "export.json").read_text())
        assert record["quantization"] == quantization


def test_an_operation_that_litert_lacks_is_named(lab: Any) -> None:
    run = lab.trained("keras", "images", model={"_target_": "project.complex_numbers"})
    (refused,) = lab.attempts(run.path, ["litert"])
    assert "litert: The model" in str(refused)
    assert "'tf." in str(refused)
    assert "Other formats of this run:  --to savedmodel,onnx,keras" in str(refused)
