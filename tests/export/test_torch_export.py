"""PyTorch models become ONNX and torch.export programs that take what the user has."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from dlsweep.errors import ConfigError, ExportError

pytestmark = pytest.mark.slow


def session(folder: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(folder / "model.onnx", options)


def project() -> Any:
    return importlib.import_module("project")


def test_raw_pixels_go_in_and_labels_come_out(lab: Any) -> None:
    import torch

    run = lab.trained("torch", "images")
    found = lab.export(run.path, "onnx", "torch", name="pets")
    onnx_folder, program_folder = found["onnx"].folder, found["torch"].folder
    assert (onnx_folder, program_folder) == (
        Path("exports/pets/onnx/1"),
        Path("exports/pets/torch/1"),
    )
    pixels, targets = project().images().validation.inputs, project().images().validation.targets
    scores, label, probability = session(onnx_folder).run(None, {"inputs": pixels})
    names = np.array(["cat", "dog", "größe"])
    assert (label == names[targets]).mean() > 0.8, "the model has learned nothing"
    assert label.tolist() == names[scores.argmax(1)].tolist()
    exact = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    np.testing.assert_allclose(probability, exact.max(1), rtol=1e-5)
    program = torch.export.load(
        program_folder / "model.pt2", extra_files=(texts := {"labels.txt": ""})
    )
    again = program.module()(torch.from_numpy(pixels))
    np.testing.assert_allclose(again.detach(), scores, atol=1e-5)
    assert texts["labels.txt"] == "cat\ndog\ngröße\n"
    model = onnx.load(onnx_folder / "model.onnx")
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert {one.key for one in model.metadata_props} == {"labels.txt", "export.json"}
    assert_parity_is_written(onnx_folder)
    for one in found.values():
        assert not lab.names_of_this_machine(one.folder)


def assert_parity_is_written(folder: Path) -> None:
    report = json.loads((folder / "parity.json").read_text())
    assert report["examples"] == 30
    assert report["agreement"] == 1
    assert report["largest_difference"] < 1e-5
    assert report["accuracy"]["trained"] == report["accuracy"]["exported"] > 0.8
    assert report["runtime"] == f"onnxruntime {onnxruntime.__version__}"
    assert set(report["latency_ms"]) == {"1", "256"}
    assert report["size_bytes"] == (folder / "model.onnx").stat().st_size


def test_a_new_version_leaves_the_old_one(lab: Any) -> None:
    run = lab.trained("torch", "values", loss="mse", monitor="val/loss", mode="min")
    first = lab.export(run.path, "onnx")["onnx"]
    before = (first.folder / "model.onnx").read_bytes()
    second = lab.export(run.path, "onnx")["onnx"]
    assert (first.folder.name, second.folder.name) == ("1", "2")
    assert (first.folder / "model.onnx").read_bytes() == before
    assert sorted(one.name for one in first.folder.parent.iterdir()) == ["1", "2"]
    assert "mean_absolute_error" in second.report
    assert len(session(second.folder).get_outputs()) == 1, "values have no labels"


def test_a_table_takes_words_as_onnx_and_numbers_as_program(lab: Any) -> None:
    import torch

    run = lab.trained("torch", "table", epochs=60)
    found = lab.export(run.path, "onnx", "torch")
    model = session(found["onnx"].folder)
    kinds = {one.name: one.type for one in model.get_inputs()}
    assert kinds == {"colour__r_g_": "tensor(string)", "size": "tensor(float)"}
    words = np.array(["red", "blå", "red"], dtype=object)
    sizes = np.array([7, 7, 0], dtype=np.float32)
    scores, label, _ = model.run(None, {"colour__r_g_": words, "size": sizes})
    assert label.tolist() == ["yes", "no", "no"]
    with pytest.raises(Exception, match=r"words of colour__r_g_.*Unknown Category"):
        model.run(None, {"colour__r_g_": np.array(["Red"], dtype=object), "size": sizes[:1]})
    described = json.loads((found["onnx"].folder / "export.json").read_text())
    assert described["inputs"][0] == {
        "name": "colour__r_g_",
        "column": "colour (r/g)",
        "dtype": "string",
        "shape": [],
        "words": ["blå", "green=ish", "red"],
    }
    encoded = json.loads((found["torch"].folder / "export.json").read_text())["inputs"]
    columns = ["colour (r/g)=blå", "colour (r/g)=green=ish", "colour (r/g)=red", "size"]
    assert encoded == [{"name": "inputs", "dtype": "float32", "shape": [4], "columns": columns}]
    rows = np.array([[0, 0, 1, 7], [1, 0, 0, 7], [0, 0, 1, 0]], dtype=np.float32)
    program = torch.export.load(found["torch"].folder / "model.pt2").module()
    np.testing.assert_allclose(program(torch.from_numpy(rows)).detach(), scores, atol=1e-5)


def test_several_inputs_keep_their_names(lab: Any) -> None:
    import torch

    run = lab.trained("torch", "two_inputs")
    found = lab.export(run.path, "onnx", "torch")
    data = project().two_inputs().validation.inputs
    inputs = {name: array.astype(np.float32) for name, array in data.items()}
    scores = session(found["onnx"].folder).run(["scores"], inputs)[0]
    program = torch.export.load(found["torch"].folder / "model.pt2").module()
    tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
    np.testing.assert_allclose(program(tensors).detach(), scores, atol=1e-5)


def test_a_dataset_is_compared_as_its_loader_yields_it(lab: Any) -> None:
    model = {"_target_": "dlsweep.torch.MLP", "hidden": 4, "input_shape": [3], "classes": 1}
    options = {"loss": "mse", "monitor": "val/loss", "mode": "min"}
    run = lab.trained("torch", "torch_dataset", model=model, **options)
    assert lab.export(run.path, "onnx")["onnx"].parity.examples == 30


def test_quantized_weights_take_a_quarter(lab: Any) -> None:
    model = {"_target_": "dlsweep.torch.MLP", "hidden": 400}
    run = lab.trained("torch", "images", model=model)
    plain = lab.export(run.path, "onnx")["onnx"].report["size_bytes"]
    for quantization in ("int8", "dynamic"):
        small = lab.export(run.path, "onnx", quantization=quantization, tolerance=0.1)["onnx"]
        assert small.report["size_bytes"] < 0.4 * plain, quantization
        assert small.parity.largest_difference > 1e-4, f"{quantization}: nothing was quantized"
        record = json.loads((small.folder / "export.json").read_text())
        assert record["quantization"] == quantization


def test_what_differs_from_the_trained_model_is_not_kept(lab: Any) -> None:
    run = lab.trained("torch", "images")
    with pytest.raises(ExportError, match=r"onnx: .*the largest difference is .*, more than 0\.\n"):
        lab.export(run.path, "onnx", tolerance=0.0)
    assert not list(Path("exports/study/onnx").iterdir())


def test_data_that_has_changed_since_is_refused(lab: Any, tmp_path: Path) -> None:
    run = lab.trained("torch", "images")
    file = run.path / "data.json"
    record = json.loads(file.read_text())
    file.write_text(json.dumps({**record, "mean": [[[0.5]], [[0.5]]]}))
    with pytest.raises(ExportError, match=r"data: mean is .* now, and was \[\[\[0\.5\]\]"):
        lab.export(run.path, "onnx")


def test_a_model_that_branches_on_values_is_refused_with_the_reason(lab: Any, capfd: Any) -> None:
    model = {"_target_": "project.decides"}
    options = {"loss": "mse", "monitor": "val/loss", "mode": "min"}
    run = lab.trained("torch", "values", model=model, **options)
    for one in lab.attempts(run.path, ["onnx", "torch"]):
        assert "data-dependent" in str(one)
        assert "Other formats of this run:  --to" in str(one)
    assert not list(Path("exports/study").rglob("*.*"))


def test_a_format_of_the_other_framework_is_refused(lab: Any) -> None:
    run = lab.run("torch", "images")
    with pytest.raises(
        ConfigError,
        match=r"Received 'litert' for a run of TorchTrainer\.\nExpected one of onnx, torch",
    ):
        lab.export(run.path, "litert")


def test_a_standardised_target_comes_back_in_its_own_units(lab: Any) -> None:
    options = {"loss": "mse", "monitor": "val/r2", "mode": "max", "epochs": 40}
    run = lab.trained("torch", "standardised", **options)
    error = json.loads((run.path / "data.json").read_text())["target_std"][0] / 2
    for form, one in lab.export(run.path, "onnx", "torch").items():
        measured = one.report["mean_absolute_error"]
        assert measured["exported"] == pytest.approx(measured["trained"], rel=1e-3), form
        assert measured["exported"] < error, "far less than a model without the units"
    record = run.path / "data.json"
    stored = json.loads(record.read_text())
    record.write_text(json.dumps({**stored, "target_mean": [0.0]}))
    with pytest.raises(ExportError, match=r"target_mean is \[.*\] now, and was \[0\.0\]"):
        lab.export(run.path, "onnx")
