"""Of an ended run's checkpoints, only what its policy keeps stays, whatever is killed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dlsweep.errors import CheckpointError, ConfigError, StudyError
from dlsweep.folders.removal import Removal
from dlsweep.folders.rundir import RunDir
from dlsweep.run.checkpoint import open_checkpoint
from dlsweep.run.keeping import checkpoints_of, read_keep, surplus
from dlsweep.run.manifest import digest_of, resume_files, slim
from dlsweep.run.run import Run

SCORES = (0.5, 0.9, 0.7, 0.6)
BEST, LAST = "step-00000002", "step-00000004"


def write(folder: Path) -> None:
    (folder / "weights").write_text("w" * 100)
    (folder / "optimizer").write_text("o" * 300)


@pytest.fixture
def trained(make_run: Callable[..., RunDir]) -> RunDir:
    """A run that has saved four steps, of which the second is the best."""
    folder = make_run(overrides=["seed=3", "tracking.mlflow.registered_model_name=mine"])
    with Run.open(folder.path) as run:
        for step, score in enumerate(SCORES, start=1):
            metrics = {"val/accuracy": score}
            run.checkpoints.save(step, write, metrics, resume_only=["optimizer"])
    return folder


def left(run: RunDir) -> dict[str, list[str]]:
    found = sorted(run.checkpoints.iterdir())
    return {one.name: sorted(file.name for file in one.iterdir()) for one in found}


def test_only_the_best_weights_stay(trained: RunDir) -> None:
    digest = digest_of(trained.checkpoints / BEST)
    found = surplus(trained, keeps_weights=True)
    assert [one.name for one in found.folders] == ["step-00000003", LAST]
    assert found.size == 300 + sum(
        file.stat().st_size for one in found.folders for file in one.iterdir()
    )
    found.remove("best")
    assert left(trained) == {BEST: ["manifest.json", "weights"]}
    best = Run(trained).checkpoints.need_best()
    assert (best.path.name, best.is_whole, best.metrics) == (BEST, False, {"val/accuracy": 0.9})
    assert open_checkpoint(best.path) == best, "its digests are those of what is left"
    assert digest_of(best.path) == digest, "trackers know it as the same"
    assert Removal.of(trained) == Removal("best", LAST, BEST)
    assert surplus(trained, keeps_weights=True).is_nothing


def test_a_run_without_a_part_to_resume_keeps_its_best_checkpoint_whole(
    make_run: Callable[..., RunDir],
) -> None:
    folder = make_run()
    with Run.open(folder.path) as run:
        run.checkpoints.save(1, write, {"val/accuracy": 0.5})
        run.checkpoints.save(2, write, {"val/accuracy": 0.4})
    surplus(folder, keeps_weights=True).remove("best")
    assert left(folder) == {"step-00000001": ["manifest.json", "optimizer", "weights"]}
    assert Run(folder).checkpoints.latest().is_whole


def test_one_that_keeps_nothing_says_how_to_train_it_again(trained: RunDir) -> None:
    surplus(trained, keeps_weights=False).remove(3)
    assert left(trained) == {}
    with pytest.raises(CheckpointError) as error:
        Run(trained).checkpoints.need_best()
    assert f"{trained.path} has no checkpoint" in str(error.value)
    assert "as keep=3 says" in str(error.value)
    assert str(error.value).endswith("\n  python -m dlsweep seed=3"), "without a second version"


def test_a_trial_names_the_command_of_its_study(trained: RunDir) -> None:
    study = trained.path.parent.parent / "study.json"
    study.write_text(
        json.dumps({"command": ["python", "-m", "dlsweep", "--config-dir", "my conf"]})
    )
    surplus(trained, keeps_weights=False).remove("best")
    with pytest.raises(CheckpointError, match=r"dlsweep --config-dir 'my conf' seed=3$"):
        Run(trained).checkpoints.need_best()


def test_no_training_resumes_from_weights_alone(trained: RunDir) -> None:
    surplus(trained, keeps_weights=True).remove("best")
    latest = Run(trained).checkpoints.latest()
    with pytest.raises(CheckpointError, match="has only the weights") as error:
        latest.require_whole()
    assert "python -m dlsweep seed=3" in str(error.value)
    assert f"training.initial_weights={latest.path}" in str(error.value)


def test_a_removal_that_was_killed_is_done_by_the_next(trained: RunDir) -> None:
    """Each stage that a kill can leave, in turn; tests/faults tries every system call."""
    Removal("best", LAST, BEST).write(trained)
    names = resume_files(trained.checkpoints / BEST)
    slim(trained.checkpoints / BEST)
    names[0].write_text("o" * 300)  # as if killed before it was removed
    (trained.checkpoints / LAST).rename(trained.checkpoints / f".{LAST}.retired")
    assert Run(trained).checkpoints.need_best().path.name == BEST
    surplus(trained, keeps_weights=True).remove("best")
    assert left(trained) == {BEST: ["manifest.json", "weights"]}
    assert Removal.of(trained) == Removal("best", LAST, BEST), "the last is still known"


def test_nothing_is_removed_if_the_weights_that_stay_are_damaged(
    trained: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    for found in trained.checkpoints.iterdir():
        (found / "weights").write_text("x" * 100)
    assert surplus(trained, keeps_weights=True).is_nothing
    assert "damaged" in capsys.readouterr().err


def test_a_file_that_a_tracker_shares_frees_nothing(trained: RunDir, tmp_path: Path) -> None:
    before = surplus(trained, keeps_weights=True).size
    os.link(trained.checkpoints / LAST / "weights", tmp_path / "shared")
    assert surplus(trained, keeps_weights=True).size == before - 100


def test_a_users_own_files_are_never_touched(trained: RunDir) -> None:
    """A Hydra app of theirs has the run folder as its own, and may have such names in it."""
    own = [trained.checkpoints / name for name in ("step-0001.ckpt", "step-7/model", ".step-8/x")]
    own.append(trained.checkpoints / "step-9" / "manifest.json")
    for path in own:
        path.parent.mkdir(exist_ok=True)
        path.write_text("{}")
    surplus(trained, keeps_weights=False).remove("best")
    assert sorted(path for path in trained.checkpoints.rglob("*") if path.is_file()) == sorted(own)


def test_a_manifest_cannot_name_a_file_elsewhere(trained: RunDir, tmp_path: Path) -> None:
    other = tmp_path / "mine"
    other.write_text("precious")
    for found in trained.checkpoints.iterdir():
        manifest = json.loads((found / "manifest.json").read_text())
        manifest["resume_only"] = [os.path.relpath(other, found), str(other), "manifest.json", 5]
        (found / "manifest.json").write_text(json.dumps(manifest))
    surplus(trained, keeps_weights=True).remove("best")
    assert other.exists()
    assert left(trained) == {BEST: ["manifest.json", "optimizer", "weights"]}


def test_a_link_is_never_followed(trained: RunDir, tmp_path: Path) -> None:
    elsewhere = trained.checkpoints.rename(tmp_path / "elsewhere")
    trained.checkpoints.symlink_to(elsewhere)
    with pytest.raises(StudyError, match="is a link"):
        surplus(trained, keeps_weights=False)
    assert len(list(elsewhere.iterdir())) == 3


def test_the_checkpoints_of_a_run_are_those_that_it_would_find_itself(trained: RunDir) -> None:
    assert checkpoints_of(trained).best() == Run(trained).checkpoints.best()


@pytest.mark.parametrize("given", ["best", "all", 1, "10"])
def test_a_policy_is_a_word_or_a_number(given: object) -> None:
    assert str(read_keep("keep", given)) == str(given)


@pytest.mark.parametrize("given", ["Best", "none", 0, -1, 2.5, True, "", [1], {}, "½"])
def test_any_other_is_refused_with_what_there_is(given: object) -> None:
    with pytest.raises(ConfigError) as error:
        read_keep("hydra.sweeper.keep", given)
    assert str(error.value).startswith(f"hydra.sweeper.keep: Received {given!r}. Expected best")
    assert "hydra.sweeper.keep=10" in str(error.value)
