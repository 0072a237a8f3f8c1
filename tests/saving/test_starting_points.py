"""A new run starts with another's weights, or goes on from any checkpoint named by its path.

What no framework has a hand in is tried in PyTorch, which is quicker.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from dlsweep.errors import CheckpointError, ConfigError
from dlsweep.folders.rundir import RunDir
from dlsweep.trial.signature import build, problems

pytestmark = pytest.mark.slow


def checkpoints(folder: RunDir) -> list[Path]:
    return sorted(folder.checkpoints.glob("step-*"))


def logged(folder: RunDir) -> list[dict[str, float]]:
    records = (record for record, _ in folder.records())
    return [{**one.metrics, "step": one.step} for one in records if one.metrics]


def config(folder: RunDir) -> Any:
    return OmegaConf.load(folder.config_file)


def assert_same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)


# Resuming from a checkpoint named by its path


def test_a_run_that_takes_over_a_checkpoint_ends_as_the_undisturbed_one_to_the_bit(lab) -> None:
    straight = lab.trained()
    broken = lab.broken_off(crash_at=4)
    new = lab.run(resume_from=str(checkpoints(broken)[-1]))
    lab.train(new, seed=99)
    assert logged(new) == logged(straight)[3:]
    assert_same(lab.arrays(checkpoints(new)[-1]), lab.arrays(checkpoints(straight)[-1]))


def test_once_begun_it_goes_on_from_its_own_though_the_source_is_gone(torch_lab) -> None:
    straight = torch_lab.trained()
    broken = torch_lab.broken_off(crash_at=3)
    new = torch_lab.run(resume_from=str(checkpoints(broken)[-1]))
    torch_lab.break_off(new, crash_at=3, seed=98)  # before it has saved an epoch of its own
    shutil.rmtree(broken.path)
    torch_lab.train(new, seed=99)
    assert logged(new) == logged(straight)[2:]
    assert_same(torch_lab.arrays(checkpoints(new)[-1]), torch_lab.arrays(checkpoints(straight)[-1]))


def test_its_result_is_the_best_of_its_own_epochs(torch_lab) -> None:
    source = torch_lab.trained(epochs=3, scheduler="StepLR")
    new = torch_lab.run(resume_from=str(checkpoints(source)[-1]), epochs=6)
    metrics = torch_lab.train(new)
    assert [record["step"] for record in logged(new)] == [4, 5, 6]
    assert metrics["val/accuracy"] == max(record["val/accuracy"] for record in logged(new))
    assert metrics["epoch"] in (4, 5, 6)


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"optimizer": "SGD"}, "optimizer: Adam in the checkpoint, SGD here"),
        ({"scheduler": "cosine"}, "scheduler: StepLR in the checkpoint, CosineAnnealingLR here"),
        ({"ema_decay": 0.9}, "average: "),
        ({"classes": 4}, "(?i)shape|size"),
        (
            {"callbacks": [{"_target_": "dlsweep.trainers.Callback"}]},
            r"callbacks\[0\]: none in the checkpoint, Callback here",
        ),
    ],
)
def test_what_does_not_fit_the_checkpoint_is_refused(lab, other: dict[str, Any], says: str) -> None:
    source = lab.trained(epochs=1)
    new = lab.run(resume_from=str(checkpoints(source)[-1]), **other)
    with pytest.raises(CheckpointError, match=says):
        lab.train(new)
    assert not logged(new)


def test_a_checkpoint_that_has_done_all_epochs_is_refused(torch_lab) -> None:
    source = torch_lab.trained(epochs=2)
    new = torch_lab.run(resume_from=str(checkpoints(source)[-1]), epochs=2)
    with pytest.raises(ConfigError, match=r"Expected more than 2[\s\S]*training\.epochs=4"):
        torch_lab.train(new)


# Starting with another run's weights


@pytest.mark.parametrize("is_run", [True, False])
def test_weights_are_those_of_the_best_checkpoint_or_of_the_one_named(
    lab, is_run: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    source = lab.trained(epochs=3, monitor="train/loss", mode="max")  # so that the first is best
    chosen = checkpoints(source)[0 if is_run else -1]
    new = lab.run(initial_weights=str(source.path if is_run else chosen), lr=0.0, epochs=1)
    lab.train(new, seed=7)
    kept = lab.arrays(chosen)
    for name, value in lab.arrays(checkpoints(new)[-1]).items():
        if not name.startswith("optimizer/"):
            np.testing.assert_array_equal(value, kept[name])
    assert f"4 of 4 parameters are taken from {chosen}" in capfd.readouterr().out
    assert [record["step"] for record in logged(new)] == [1]


def test_a_head_of_another_shape_stays_as_initialised_and_is_said(
    lab, capfd: pytest.CaptureFixture[str]
) -> None:
    source = lab.trained(epochs=1)
    scratch = lab.trained(classes=5, lr=0.0, epochs=1)
    new = lab.run(classes=5, lr=0.0, epochs=1, initial_weights=str(source.path))
    lab.train(new)
    old, start, warm = (
        list(lab.arrays(checkpoints(folder)[-1]).values())[:4] for folder in (source, scratch, new)
    )
    for number, expected in enumerate([old[0], old[1], start[2], start[3]]):
        np.testing.assert_array_equal(warm[number], expected)
    said = capfd.readouterr().out
    assert "2 of 4 parameters are taken" in said
    if lab.framework == "torch":
        assert re.search(r"\.weight: \[3, 8\] in the checkpoint, \[5, 8\] here", said)
        assert re.search(r"\.bias: \[3\] in the checkpoint, \[5\] here", said)
    else:
        assert "mlp/dense_1/kernel: [8, 3] in the checkpoint, [8, 5] here" in said
        assert "mlp/dense_1/bias: [3] in the checkpoint, [5] here" in said


def test_a_parameter_that_one_of_both_lacks_is_said(
    torch_lab, capfd: pytest.CaptureFixture[str]
) -> None:
    source = torch_lab.trained(epochs=1)
    torch_lab.train(
        torch_lab.run(model={"hidden": [8, 3]}, epochs=1, initial_weights=str(source.path))
    )
    said = capfd.readouterr().out
    assert re.search(r"(\.weight|kernel): none in the checkpoint, \[3, 3\] here", said)


def test_the_moving_average_starts_with_the_weights_as_well(lab) -> None:
    source = lab.trained(epochs=1, ema_decay=0.9)
    new = lab.run(initial_weights=str(source.path), lr=0.0, epochs=1, ema_decay=0.9)
    lab.train(new, seed=7)
    kept, warm = (lab.arrays(checkpoints(folder)[-1]) for folder in (source, new))
    for name, value in list(warm.items())[:4]:
        np.testing.assert_allclose(value, kept[name], rtol=1e-6)


def test_a_run_with_a_checkpoint_of_its_own_goes_on_from_that(torch_lab) -> None:
    source = torch_lab.trained(epochs=1)
    straight = torch_lab.trained(initial_weights=str(source.path))
    new = torch_lab.run(initial_weights=str(source.path))
    torch_lab.break_off(new, crash_at=4)
    shutil.rmtree(source.path)
    torch_lab.train(new, seed=99)
    assert logged(new) == logged(straight)


# What is refused


def test_a_model_that_shares_nothing_is_refused(torch_lab) -> None:
    source = torch_lab.trained(epochs=1)
    wider = torch_lab.run(model={"hidden": 9}, classes=4, initial_weights=str(source.path))
    with pytest.raises(CheckpointError, match=r"no parameter in common[\s\S]*\[\d, \d\] here"):
        torch_lab.train(wider)


@pytest.mark.parametrize("key", ["initial_weights", "resume_from"])
def test_a_damaged_checkpoint_is_refused(torch_lab, key: str) -> None:
    chosen = checkpoints(torch_lab.trained(epochs=1))[-1]
    large = max(chosen.iterdir(), key=lambda file: file.stat().st_size)
    large.write_bytes(large.read_bytes()[:-1] + b"?")
    new = torch_lab.run(**{key: str(chosen)})
    with pytest.raises(CheckpointError, match=f"{chosen} is damaged: {large.name} does not match"):
        torch_lab.train(new)
    assert not logged(new)


@pytest.mark.parametrize("key", ["initial_weights", "resume_from"])
def test_a_path_with_nothing_to_start_from_is_refused_before_anything_starts(
    torch_lab, key: str, tmp_path: Path
) -> None:
    for given, says in (("nowhere", "does not exist"), (str(tmp_path), "contains no checkpoint")):
        new = torch_lab.run(**{key: given})
        with pytest.raises(ConfigError, match=rf"training\.{key}: Received /.*{says}"):
            torch_lab.train(new)
        found = problems(config(new))
        assert len(found) == 1
        assert says in found[0]


def test_a_runs_folder_is_no_checkpoint_to_resume_from(torch_lab) -> None:
    source = torch_lab.trained(epochs=1)
    new = torch_lab.run(resume_from=str(source.path))
    with pytest.raises(ConfigError, match=rf"a run's folder\.\nExpected.*{source.path}/checkpoi"):
        torch_lab.train(new)


@pytest.mark.parametrize("key", ["initial_weights", "resume_from"])
def test_another_frameworks_checkpoint_is_refused(make_lab, key: str) -> None:
    chosen = checkpoints(make_lab("torch").trained(epochs=1))[-1]
    lab = make_lab("keras")
    lab.run()  # whose number the source has
    new = lab.run(**{key: str(chosen)})
    with pytest.raises(CheckpointError, match=r"another framework: there is no state\.json"):
        build("training", config(new).training).preflight()


def test_both_at_once_are_refused(torch_lab) -> None:
    with pytest.raises(ConfigError, match=r"Received both\. Expected one"):
        torch_lab.train(torch_lab.run(initial_weights="one", resume_from="other"))
