"""A config is compared with the signatures of its targets before anything is called."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
from omegaconf import OmegaConf

from dlsweep.errors import ConfigError, DataError
from dlsweep.run.run import Run
from dlsweep.trainers.base import Trainer
from dlsweep.trial.signature import build, conforms, describe, is_trainer, locate, problems

_TARGETS = """
from typing import Literal
from dlsweep.errors import DataError
from dlsweep.trainers.base import Trainer

class MyTrainer(Trainer):
    def __init__(self, epochs: int, lr: float = 0.1, loss: Literal["mse", "mae"] = "mse",
                 optimizer: object = None, sizes: list[int] | None = None) -> None:
        self.epochs = epochs
    def fit(self, run): ...

class Strict(Trainer):
    def __init__(self) -> None:
        raise DataError("data: Received nothing.")
    def fit(self, run): ...

class OfModels(Trainer):
    model_kind = dict
    def fit(self, run): ...
    def build_model(self, run): ...

class WithItsOwn(OfModels):
    def build_model(self, run): ...

class Ordered(dict): ...
def a_list() -> list: ...
def a_mapping() -> dict: ...
def who_knows(): ...
def an_object() -> object: ...
def train(run, cfg): ...
def optimizer(params, *, lr: float = 0.1): ...
def anything(**options): ...
number = 3
"""


@pytest.fixture(autouse=True)
def targets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "signature_targets.py").write_text(_TARGETS)
    monkeypatch.syspath_prepend(str(tmp_path))


def found(**training: Any) -> list[str]:
    node = {"_target_": "signature_targets.MyTrainer", "epochs": 3, **training}
    return problems(OmegaConf.create({"training": node}))


def test_a_config_that_fits_has_no_problems() -> None:
    partial = {"_target_": "signature_targets.optimizer", "_partial_": True, "lr": 1}
    assert found(lr=1, loss="mae", sizes=[1, 2], optimizer=partial) == []


@pytest.mark.parametrize(
    ("training", "problem"),
    [
        ({"epoch": 3}, "training.epoch: signature_targets.MyTrainer takes no 'epoch'."),
        ({"epochs": "many"}, "training.epochs: Received 'many' (str). Expected int."),
        ({"epochs": True}, "training.epochs: Received True (bool). Expected int."),
        ({"epochs": 1.5}, "training.epochs: Received 1.5 (float). Expected int."),
        ({"lr": None}, "training.lr: Received None (NoneType). Expected float."),
        ({"loss": "l1"}, "training.loss: Received 'l1' (str). Expected 'mse', 'mae'."),
        (
            {"sizes": [1, "a"]},
            "training.sizes: Received [1, 'a'] (list). Expected list[int] or null",
        ),
    ],
)
def test_a_value_that_does_not_fit_is_named_with_what_does(training: dict, problem: str) -> None:
    (only,) = found(**training)
    assert only.startswith(problem)


def test_an_unknown_key_names_the_nearest() -> None:
    assert found(epoch=3)[0].endswith("Did you mean 'epochs'?")


def test_a_nested_target_is_checked_under_its_own_key() -> None:
    (only,) = found(
        optimizer={"_target_": "signature_targets.optimizer", "_partial_": True, "l": 1}
    )
    assert only.startswith("training.optimizer.l: signature_targets.optimizer takes no 'l'")


def test_a_needed_argument_says_what_to_type() -> None:
    config = OmegaConf.create({"training": {"_target_": "signature_targets.MyTrainer"}})
    (only,) = problems(config)
    assert only.endswith("needs it.  Type  +training.epochs=<value>")


def test_a_partial_target_may_want_what_only_the_trainer_knows() -> None:
    node = {"_target_": "signature_targets.optimizer"}
    assert found(optimizer={**node, "_partial_": True}) == []
    assert "training.optimizer.params" in found(optimizer=node)[0]


def test_a_missing_value_says_what_to_type() -> None:
    assert found(lr="???") == ["training.lr: a value is needed.  Type  training.lr=<value>"]


def test_an_interpolation_that_leads_nowhere_is_told() -> None:
    (said,) = found(lr="${data.nowhere}")
    assert said.startswith("training.lr: it cannot be resolved: Interpolation key 'data.nowhere'")
    assert said.endswith("not found.\nType  training.lr=<value>")


@pytest.mark.parametrize(
    ("target", "cause"),
    [
        ("nosuchmodule.Trainer", "ModuleNotFoundError: No module named 'nosuchmodule'"),
        ("signature_targets.NoSuch", "NoSuch"),
    ],
)
def test_a_target_that_cannot_be_imported_is_quoted(target: str, cause: str) -> None:
    (only,) = found(_target_=target)
    assert only.startswith(f"training._target_: {target!r} cannot be imported")
    assert cause in only
    with pytest.raises(ConfigError, match="cannot be imported"):
        locate("training", target)


def test_a_function_that_trains_takes_any_key_and_is_not_called() -> None:
    config = {"training": {"_target_": "signature_targets.train", "x": 1}}
    assert problems(OmegaConf.create(config)) == []
    config["training"]["_target_"] = "signature_targets.number"
    assert problems(OmegaConf.create(config)) == [
        "training._target_: signature_targets.number is not callable."
    ]


def test_what_a_trainer_refuses_when_it_is_built_is_found_too() -> None:
    config = {"training": {"_target_": "signature_targets.Strict"}}
    assert problems(OmegaConf.create(config)) == ["data: Received nothing."]


@pytest.mark.parametrize("target", ["signature_targets.a_list", "pathlib.PurePath"])
def test_a_model_of_another_kind_is_refused_before_it_is_made(target: str) -> None:
    config = {"training": {"_target_": "signature_targets.OfModels"}, "model": {"_target_": target}}
    (problem,) = problems(OmegaConf.create(config))
    assert f"model._target_: '{target}' makes a " in problem
    assert "Expected a builtins.dict, which OfModels trains.\nChoose such a model" in problem
    config["training"]["_target_"] = "signature_targets.WithItsOwn"
    assert problems(OmegaConf.create(config)) == []


@pytest.mark.parametrize("model", ["Ordered", "a_mapping", "who_knows", "an_object"])
def test_a_model_that_may_be_of_the_kind_is_not_refused(model: str) -> None:
    node = {"_target_": f"signature_targets.{model}"}
    config = {"training": {"_target_": "signature_targets.OfModels"}, "model": node}
    assert problems(OmegaConf.create(config)) == []


def test_open_ended_arguments_take_everything() -> None:
    config = {"model": {"_target_": "signature_targets.anything", "a": 1, "b": [2]}}
    assert problems(OmegaConf.create(config)) == []


def test_a_target_is_built_with_its_arguments_or_says_why_not() -> None:
    node = OmegaConf.create({"_target_": "signature_targets.MyTrainer", "epochs": 3})
    assert build("training", node).epochs == 3
    with pytest.raises(ConfigError, match=r"training\.depth: .*MyTrainer takes no 'depth'"):
        build("training", {**node, "depth": 3})
    with pytest.raises(DataError):
        build("training", OmegaConf.create({"_target_": "signature_targets.Strict"}))


class Given(Trainer):
    def fit(self, run: Run) -> dict[str, float]:
        return {}


def test_only_a_trainer_class_is_a_trainer() -> None:
    assert is_trainer(Given)
    assert not is_trainer(Given())
    assert not is_trainer(print)


@pytest.mark.parametrize(
    ("value", "hint", "fits"),
    [
        (3, float, True),
        (True, float, False),
        (3.0, int, False),
        (None, int | None, True),
        ("auto", float | Literal["auto"], True),
        ("full", float | Literal["auto"], False),
        (1, Literal[True], False),
        ([1, 2.5], Sequence[float], True),
        ("ab", Sequence[str], False),
        ({"a": 1}, dict[str, int], True),
        ({"a": "b"}, dict[str, int], False),
        ("folder", Path, True),
        (3, Path, False),
        (object(), Any, True),
    ],
)
def test_a_value_conforms_to_its_annotation(value: object, hint: Any, fits: bool) -> None:
    assert conforms(value, hint) is fits


def test_an_annotation_is_described_in_words() -> None:
    assert describe(float | Literal["auto"] | None) == "float or 'auto' or null"
    assert describe(list[int]) == "list[int]"


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        ["+experiment=mnist"],
        ["model=cnn", "training/optimizer=sgd", "training/scheduler=cosine"],
        ["training/optimizer=adamw", "training/scheduler=plateau"],
        ["training/scheduler=step"],
        ["+experiment=quadratic"],
    ],
    ids=" ".join,
)
def test_the_shipped_configs_have_no_problems(overrides: list[str]) -> None:
    from hydra import compose, initialize_config_dir

    from dlsweep.cli.search_path import VERSION_BASE, conf_dir

    with initialize_config_dir(str(conf_dir()), **VERSION_BASE):
        assert problems(compose("config", overrides)) == []
