"""One Keras model on two devices: parts of a CPU, and it trains as on one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import keras
import pytest
from omegaconf import OmegaConf

from dlsweep.errors import ConfigError
from dlsweep.keras.trainer import KerasTrainer

if TYPE_CHECKING:
    from conftest import Trial

pytestmark = pytest.mark.slow
MakeTrial = Callable[..., "Trial"]
CONF = Path(__file__).parents[2] / "conf"
_CONFIG = OmegaConf.load(CONF / "framework" / "keras.yaml")
OmegaConf.resolve(_CONFIG)
FRAMEWORK = OmegaConf.to_container(_CONFIG.framework)


@pytest.fixture
def trial(trial: MakeTrial) -> MakeTrial:
    """Makes a run with everything that must hold, at once."""

    def make(name: str = "0000", model: str = "net", **options: object) -> Trial:
        plateau = OmegaConf.load(CONF / "training" / "scheduler" / "plateau.yaml")
        target = {"_target_": f"keras_parts.{model}"}
        options = {"clip_norm": 0.1, "ema_decay": 0.9, "scheduler": plateau, **options}
        data = options.pop("data", "three_classes.arrays")
        return trial(name, data=data, model=target, **options)

    return make


def stop_behind(*epochs: int) -> list[dict]:
    return [{"_target_": "keras_parts.StopBehind", "epoch": epoch} for epoch in epochs]


def test_two_replicas_train_as_one_and_go_on_with_any_number(trial: MakeTrial):
    one = trial("0000", replicas=1, epochs=4).run()
    both = trial("0001", replicas=2, epochs=4, callbacks=stop_behind(1, 2, 3)).run()
    for replicas in (2, 1, 2):
        both.go_on(replicas)
    one.assert_same_curve(both)


def test_two_replicas_measure_r2_of_all_and_keep_groups(trial: MakeTrial):
    options = {
        "data": "three_classes.prices",
        "loss": "mse",
        "optimizer": {"weight_decay": 0.01},
        "param_groups": {"last": {"match": ".*/dense_1/.*", "lr": 0.2, "weight_decay": 0.0}},
        "freeze": [".*/dense/bias"],
    }
    one = trial("0000", replicas=1, **options).run()
    both = trial("0001", replicas=2, **options).run()
    one.assert_same_curve(both)
    assert both.curve[2]["val/r2"] < 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"model": "with_a_step"}, "Model.train_step"),
        ({"_target_": "keras_parts.Loop", "ema_decay": None}, "a training loop of your own"),
    ],
)
def test_what_does_not_divide_its_losses_is_refused(trial: MakeTrial, options: dict, said: str):
    refused = trial(replicas=2, **options).run()
    assert said in refused.result["reason"]
    assert "training.replicas=1" in refused.result["reason"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"strategy": "fsdp"}, "training.strategy: Received 'fsdp'. Expected one of data_parallel"),
        ({"accumulate": 2, "replicas": 2}, "with training.accumulate=2"),
        ({"precision": "fp16", "replicas": 2}, "with training.precision=fp16"),
    ],
)
def test_what_cannot_work_is_said(options: dict, said: str):
    with pytest.raises(ConfigError, match=said):
        KerasTrainer(keras.optimizers.SGD, **options).preflight()


def test_another_backend_has_no_replicas(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(keras.config, "backend", lambda: "torch")
    with pytest.raises(ConfigError, match=r"framework\.backend=torch"):
        KerasTrainer(keras.optimizers.SGD, replicas=2).preflight()
