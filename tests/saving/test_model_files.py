"""A trained model becomes a file that the plain framework reads, and predicts the same."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import dlsweep
from dlsweep.cli.main import main
from dlsweep.errors import ConfigError, MissingExtraError

pytestmark = pytest.mark.slow

INPUTS = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_torch_reads_its_files_back(make_lab, tmp_path: Path, suffix: str) -> None:
    import safetensors.torch
    import torch

    from dlsweep.torch.models import MLP

    source = make_lab("torch").trained(epochs=2)
    file = tmp_path / "new" / f"model{suffix}"
    dlsweep.save_model(source.path, file)
    read = safetensors.torch.load_file if suffix == ".safetensors" else torch.load
    model = MLP([2], 3, hidden=8, dropout=0.5).eval()
    model.load_state_dict(read(file))
    expected = dlsweep.load_model(source.path)(torch.from_numpy(INPUTS))
    assert torch.equal(model(torch.from_numpy(INPUTS)), expected)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # TensorFlow's
def test_keras_reads_its_files_back(make_lab, tmp_path: Path) -> None:
    import keras

    from dlsweep.keras.models import MLP

    source = make_lab("keras").trained(epochs=2)
    for name in ("model.keras", "model.weights.h5"):
        dlsweep.save_model(source.path, tmp_path / name)
    expected = dlsweep.load_model(source.path).predict(INPUTS, verbose=0)
    whole = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(whole.predict(INPUTS, verbose=0), expected)
    weights = MLP([2], 3, hidden=8, dropout=0.5)
    weights.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(weights.predict(INPUTS, verbose=0), expected)
    assert not list(tmp_path.glob(".*"))


def test_the_verb_writes_the_best_checkpoint(
    make_lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    lab = make_lab("torch")
    source = lab.trained(epochs=3, monitor="train/loss", mode="max")
    source_best = min(source.checkpoints.glob("step-*"))
    monkeypatch.chdir(tmp_path)  # where the module of the data is
    monkeypatch.setattr(sys, "argv", ["dlsweep", "save", str(source.path), "model.pt"])
    with pytest.raises(SystemExit, match="0"):
        main()
    assert capsys.readouterr().out == "model.pt\n"
    best = lab.arrays(source_best)
    for name, value in torch.load("model.pt").items():
        np.testing.assert_array_equal(value.numpy(), best[name])


def test_a_suffix_of_the_other_framework_is_refused(lab, tmp_path: Path) -> None:
    source = lab.trained(epochs=1)
    for name in {"torch": ["model.keras", "model"], "keras": ["model.pt", "x.h5", "model"]}[
        lab.framework
    ]:
        with pytest.raises(
            ConfigError, match=r"Received the suffix[\s\S]*Expected one of  \."
        ) as error:
            dlsweep.save_model(source.path, tmp_path / name)
        assert str(error.value).startswith(f"{tmp_path / name}: ")
        assert "python -m dlsweep export" in str(error.value)


def test_a_file_that_exists_is_left_alone(lab, tmp_path: Path) -> None:
    file = tmp_path / {"torch": "model.pt", "keras": "model.keras"}[lab.framework]
    file.write_text("mine")
    with pytest.raises(ConfigError, match="exists already"):
        dlsweep.save_model(lab.trained(epochs=1).path, file)
    assert file.read_text() == "mine"


def test_a_missing_safetensors_is_named(
    make_lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    source = make_lab("torch").trained(epochs=1)
    with pytest.raises(MissingExtraError, match=r"pip install 'dlsweep\[safetensors\]'"):
        dlsweep.save_model(source.path, tmp_path / "model.safetensors")
    assert not list(tmp_path.glob("*model.safetensors"))
