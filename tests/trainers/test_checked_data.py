"""Data that does not fit the loss is refused before a trial starts, in either framework."""

from __future__ import annotations

from typing import Any

import pytest
from omegaconf import OmegaConf

from dlsweep.trial.signature import problems

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("framework", ["torch", "keras"])
@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_values_need_a_loss_of_values(
    framework: str, loss: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "prices.csv").write_text("a,price\n" + "".join(f"{n},{n}.5\n" for n in range(20)))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    optimizers = {"torch": "torch.optim", "keras": "dlsweep.keras.optimizers"}[framework]
    trainer = {"torch": "TorchTrainer", "keras": "KerasTrainer"}[framework]
    config = {
        "model": {
            "_target_": f"dlsweep.{framework}.MLP",
            "input_shape": None,
            "classes": None,
            "hidden": 4,
        },
        "data": {
            "_target_": "dlsweep.data.table",
            "path": str(tmp_path / "prices.csv"),
            "target": "price",
        },
        "training": {
            "_target_": f"dlsweep.{framework}.{trainer}",
            "optimizer": {"_target_": f"{optimizers}.Adam", "_partial_": True},
            "batch_size": 4,
            "loss": loss,
        },
    }
    found = problems(OmegaConf.create(config))
    assert len(found) == (loss == "cross_entropy")
    for problem in found:
        assert "targets of the type float32, which are values and not classes" in problem
        assert "Type  training.loss=mse  or, for a table,  data.task=regression" in problem
    patterns = {"freeze": ["backbone.*"], "param_groups": {"all": {"match": ".*", "lr": 1}}}
    training = {**config["training"], "loss": "mse", **patterns}
    (problem,) = problems(OmegaConf.create({**config, "training": training}))
    assert "training.freeze[0]: Received 'backbone.*', which matches no parameter" in problem
    assert ("mlp/dense/kernel" if framework == "keras" else "layers.1.weight") in problem
    training = {**config["training"], "initial_weights": "nowhere"}
    both = problems(OmegaConf.create({**config, "training": training}))
    assert len(both) == 1 + (loss == "cross_entropy"), "each error is named, not the first alone"
