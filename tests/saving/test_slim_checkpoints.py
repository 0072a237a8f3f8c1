"""A trained model is used with its weights alone; without them, what is needed is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import dlsweep
from dlsweep.cli.main import main
from dlsweep.errors import CheckpointError, ConfigError
from dlsweep.folders.rundir import RunDir
from dlsweep.run.keeping import surplus
from dlsweep.trial.signature import build

pytestmark = pytest.mark.slow

AGAIN = "Train it again, with the same seed; on a CPU, to the bit:\n  python -m dlsweep"
RESUME = {"torch": "resume.pt", "keras": "resume.npz"}


def files(run: RunDir) -> set[str]:
    return {file.name for file in run.checkpoints.glob("step-*/*")}


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # TensorFlow's
def test_weights_alone_are_the_model_and_a_start_for_another(lab, tmp_path: Path) -> None:
    source = lab.trained(epochs=3)
    path = tmp_path / ("model.pt" if lab.framework == "torch" else "model.weights.h5")
    dlsweep.save_model(source.path, path)
    assert RESUME[lab.framework] in files(source)
    surplus(source, keeps_weights=True).remove("best")
    assert RESUME[lab.framework] not in files(source)
    again = path.with_name(f"again{path.name[5:]}")
    dlsweep.save_model(source.path, again)
    assert_same(path, again)
    new = lab.run(epochs=1, initial_weights=str(source.path))
    lab.train(new)


def assert_same(one: Path, other: Path) -> None:
    if one.suffix == ".h5":  # it has the time in it
        assert one.stat().st_size == other.stat().st_size
        return
    import torch

    found, again = (torch.load(path, weights_only=True) for path in (one, other))
    for name, value in found.items():
        np.testing.assert_array_equal(value, again[name])


def test_no_training_resumes_from_them(lab) -> None:
    source = lab.trained(epochs=2)
    surplus(source, keeps_weights=True).remove("best")
    (found,) = source.checkpoints.glob("step-*")
    new = lab.run(epochs=4, resume_from=str(found))
    with pytest.raises(CheckpointError, match="has only the weights, so no training can resume"):
        lab.train(new)
    with pytest.raises(CheckpointError, match="has only the weights") as error:
        build("training", dlsweep.Run(new).config.training).preflight()
    assert AGAIN in str(error.value)
    assert f"training.initial_weights={found}" in str(error.value)
    with pytest.raises(CheckpointError, match="has only the weights"):
        lab.train(source)


def test_what_needs_a_checkpoint_that_is_gone_says_how_to_have_it_again(
    torch_lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = torch_lab.trained(epochs=2)
    last = max(source.checkpoints.glob("step-*"))
    surplus(source, keeps_weights=False).remove(10)
    with pytest.raises(CheckpointError) as error:
        dlsweep.load_model(source.path)
    assert f"{source.path} has no checkpoint" in str(error.value)
    assert "as keep=10 says" in str(error.value)
    assert AGAIN in str(error.value)
    for verb in (["save", str(source.path), "model.pt"], ["export", str(source.path)]):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("sys.argv", ["dlsweep", *verb])
        with pytest.raises(SystemExit):
            main()
        assert AGAIN in capsys.readouterr().err, verb
    assert not (tmp_path / "model.pt").exists()
    for key, given in (("initial_weights", source.path), ("resume_from", last)):
        with pytest.raises(ConfigError, match=f"training.{key}: Received {given}") as found:
            torch_lab.train(torch_lab.run(**{key: str(given)}))
        assert AGAIN in str(found.value)
