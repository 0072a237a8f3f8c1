"""What stays on the disk of a sweep: by default the best weights of each completed trial."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

#: Saves at each step. Trial x ends at once if that is asked for, the first time or always.
TRAINING = """
import os, signal

def write(folder):
    (folder / "weights").write_text("w" * 1000)
    (folder / "optimizer").write_text("o" * 3000)

def train(run, cfg):
    x = cfg.training.x
    found = run.checkpoints.latest()
    first = found.step if found else 0
    with (run.dir.path / "begun.txt").open("a") as file:
        file.write(f"{first}\\n")
    losses = [abs(x - 2) + abs(step - 3) for step in range(1, 6)]
    for step in range(first + 1, 6):
        loss = losses[step - 1]
        run.log({"val/loss": loss}, step)
        run.checkpoints.save(step, write, {"val/loss": loss}, resume_only=["optimizer"])
        if step == 4 and x == cfg.training.bug:
            raise ValueError("a bug")
        if step == 4 and x == cfg.training.killed and not first:
            os.kill(os.getpid(), signal.SIGKILL)
        if run.should_stop:
            break
    return {"val/loss": min(losses), "size": x}
"""
#: A tracker that fails while a file is there, once the runs end.
TRACKER = """
from pathlib import Path
from dlsweep.trackers.base import Tracker

class Stubborn(Tracker):
    def finish(self, run, result, state):
        if Path("down").exists():
            raise OSError("it is down")
        with Path("told.txt").open("a") as file:
            file.write(f"{run.path.name} {len(list(run.checkpoints.glob('step-*')))}\\n")
        state["told"] = True
"""
SWEEP = (
    "+experiment=quadratic",
    "training._target_=keeping.train",
    "+training.bug=-1",
    "+training.killed=-1",
    "hydra.sweeper.study_name=q",
)
NONE = (*SWEEP, "tracking=none")
SLIM, WHOLE = ["manifest.json", "weights"], ["manifest.json", "optimizer", "weights"]


@pytest.fixture
def keeping(project):
    project.module("keeping", TRAINING)
    project.module("stubborn", TRACKER)
    return project


def kept(project, study: str = "q") -> dict[int, dict[int, list[str]]]:
    """The files of each checkpoint, by trial and step."""
    return {
        int(trial.name): {
            int(one.name.removeprefix("step-")): sorted(file.name for file in one.iterdir())
            for one in sorted((trial / "checkpoints").iterdir())
        }
        for trial in project.trials(study)
        if (trial / "checkpoints").exists()
    }


def grid(*xs: int) -> tuple[str, ...]:
    return ("training.x=" + ",".join(map(str, xs)), "-m")


def edit(file: Path, **changes: object) -> None:
    record = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps({key: one for key, one in record.items() if one is not None}))


def test_completed_trials_keep_their_best_weights_and_failed_ones_nothing(keeping) -> None:
    keeping.run(*NONE, "training.bug=1", *grid(0, 1, 2))
    assert kept(keeping) == {0: {3: SLIM}, 1: {}, 2: {3: SLIM}}
    text = keeping.run("resume", "outputs/q/trials/0000")
    assert "is completed already; there is nothing to do." in text
    assert "0000 has only its best weights" in text
    assert "training.x=0" in text.splitlines()[-1]


def test_a_pruned_trial_keeps_nothing(keeping) -> None:
    keeping.run(
        *NONE,
        "hydra/sweeper/pruner=threshold",
        "hydra.sweeper.pruner.upper=10",
        "hydra.sweeper.params={training.x:'range(0,20)'}",
        "hydra.sweeper.enqueue=[{training.x:1},{training.x:19}]",
        "hydra.sweeper.n_trials=2",
        "-m",
    )
    assert list(keeping.table("q")["state"]) == ["completed", "pruned"]
    assert kept(keeping) == {0: {3: SLIM}, 1: {}}


def test_a_trial_that_is_tried_again_goes_on_from_its_own(keeping) -> None:
    keeping.run(*NONE, "training.killed=1", *grid(0, 1))
    begun = (keeping.trials("q")[1] / "begun.txt").read_text().split()
    assert begun == ["0", "4"], "the second attempt had the checkpoints of the first"
    assert kept(keeping) == {0: {3: SLIM}, 1: {3: SLIM}}


def test_a_number_keeps_that_many_of_the_best(keeping) -> None:
    keeping.run(*NONE, "hydra.sweeper.keep=2", *grid(5, 1, 9, 2))
    assert kept(keeping) == {0: {}, 1: {3: SLIM}, 2: {}, 3: {3: SLIM}}
    keeping.run(*NONE, "hydra.sweeper.keep=2", *grid(5, 1, 9, 2))
    assert kept(keeping)[3] == {3: SLIM}, "the same command removes no more"


def test_of_several_objectives_the_front_stays(keeping) -> None:
    keeping.run(
        *NONE,
        "hydra.sweeper.keep=1",
        "hydra.sweeper.metric=[val/loss,size]",
        "hydra.sweeper.direction=[minimize,minimize]",
        "hydra/sweeper/pruner=none",
        *grid(4, 2, 0, 3),
    )
    assert kept(keeping) == {0: {}, 1: {3: SLIM}, 2: {3: SLIM}, 3: {}}


def test_all_keeps_all_and_the_same_study_keeps_to_it(keeping) -> None:
    keeping.run(*NONE, "hydra.sweeper.keep=all", *grid(0, 1))
    whole = {3: WHOLE, 4: WHOLE, 5: WHOLE}
    assert kept(keeping) == {0: whole, 1: whole}
    output = keeping.run(*NONE, *grid(0, 1))
    assert kept(keeping) == {0: whole, 1: whole}, "nobody asked for less"
    output = keeping.run(*NONE, "hydra.sweeper.keep=best", *grid(0, 1))
    assert "hydra.sweeper.keep is best from now on; before, it was all." in output
    assert f"prune {keeping.path}/outputs/q --keep best" in output
    assert kept(keeping) == {0: whole, 1: whole}, "they began when all was kept"


def test_a_study_of_an_earlier_version_loses_nothing_and_says_so_once(keeping) -> None:
    sweep = (*NONE, "hydra.sweeper.params={training.x:'range(0,20)'}", "-m")
    keeping.run(*sweep, "hydra.sweeper.keep=all", "hydra.sweeper.n_trials=2")
    edit(keeping.path / "outputs" / "q" / "study.json", keep=None)
    for trial in keeping.trials("q"):
        edit(trial / "run.json", keep=None)
    before = kept(keeping)
    said = "An earlier version began this study, so all its trials keep all their checkpoints."
    assert said in keeping.run(*sweep, "hydra.sweeper.n_trials=3")
    assert said not in keeping.run(*sweep, "hydra.sweeper.n_trials=4")
    found = kept(keeping)
    assert {number: found[number] for number in before} == before
    assert WHOLE in found[3].values()


def test_nothing_goes_before_each_tracker_has_it(keeping) -> None:
    sweep = (*SWEEP, "tracking=csv", "+tracking.mine._target_=stubborn.Stubborn", *grid(0, 1))
    (keeping.path / "down").touch()
    output = keeping.run(*sweep)
    whole = {3: WHOLE, 4: WHOLE, 5: WHOLE}
    assert kept(keeping) == {0: whole, 1: whole}
    assert (
        "2 ended trials keep all their checkpoints, because they are not synced to mine." in output
    )
    shown = keeping.run("prune", "outputs/q", "--yes", code=1)
    assert "2 ended trials are not synced to mine yet and keep everything." in shown
    assert kept(keeping) == {0: whole, 1: whole}
    (keeping.path / "down").unlink()
    keeping.run(*sweep)
    assert kept(keeping) == {0: {3: SLIM}, 1: {3: SLIM}}, "the same command does what was left"
    told = (keeping.path / "told.txt").read_text().splitlines()
    assert sorted(told) == ["0000 3", "0001 3"], "it saw what the training had left"


def test_prune_shows_what_would_go_and_removes_it_when_told_to(keeping) -> None:
    keeping.run(*NONE, "training.bug=7", "hydra.sweeper.keep=all", *grid(0, 1, 7))
    before = kept(keeping)
    shown = keeping.run("prune", "outputs/q")
    rows = [line.split() for line in shown.splitlines()]
    assert rows[0] == ["trial", "state", "goes", "stays", "frees"]
    assert rows[1][:4] == ["0000", "completed", "2", "checkpoints,"]
    assert rows[3][:5] == ["0002", "crashed", "2", "checkpoints", "nothing"]
    assert kept(keeping) == before
    assert "Nothing is removed yet." in shown
    command = shown.splitlines()[-1].split()
    assert command[:4] == ["python", "-m", "dlsweep", "prune"]
    assert "Removed: " in keeping.run(*command[3:])
    assert kept(keeping) == {0: {3: SLIM}, 1: {3: SLIM}, 2: {}}
    assert "With keep=1, " not in (
        some := keeping.run("prune", "outputs/q", "--keep", "1", "--yes")
    )
    assert "0000" in some
    assert kept(keeping) == {0: {}, 1: {3: SLIM}, 2: {}}
    assert "With keep=1, nothing goes." in keeping.run("prune", "outputs/q", "--keep", "1")
    again = keeping.run("resume", "outputs/q/trials/0002", code=1)
    assert "0002 has no checkpoint: all were removed" in again
    assert "It is trained here again, from its start." in again
    assert (keeping.trials("q")[2] / "begun.txt").read_text().split() == ["0", "0"]


def test_a_trial_that_keeps_nothing_is_had_again_to_the_bit(project) -> None:
    import torch

    small = ("training.epochs=1", "training.batch_size=500", "tracking=none")
    project.run("+experiment=mnist", *small, "model.hidden=8,16", "hydra.sweeper.keep=all", "-m")
    study = project.path / "outputs" / "mnist"
    (before,) = study.glob("trials/0000/checkpoints/*/state.pt")
    weights = torch.load(before, weights_only=True)["model"]
    values = project.table("mnist")["val/accuracy"]
    assert values[0] < values[1], "or the other one would go"
    project.run("prune", "outputs/mnist", "--keep", "1", "--yes")
    assert not before.exists()
    said = project.run("save", "outputs/mnist/trials/0000", "model.pt", code=1)
    command = shlex.split(said.splitlines()[-1])
    project.run(*command[3:], "hydra.run.dir=again")
    (after,) = project.path.glob("again/checkpoints/*/state.pt")
    again = torch.load(after, weights_only=True)["model"]
    assert all(torch.equal(weights[name], again[name]) for name in weights)


def test_prune_leaves_a_running_sweep_and_open_trials_alone(keeping) -> None:
    sweep = (*NONE, "hydra.sweeper.keep=all", "hydra.sweeper.n_jobs=1")
    trial = "outputs/q/trials/0001"
    slow = TRAINING.replace("losses = [", "import time; time.sleep(60 * (x == 1)); losses = [")
    keeping.module("keeping", slow)
    driver = keeping.start(*sweep, *grid(0, 1))
    deadline = time.monotonic() + 60
    while not (keeping.path / trial / "begun.txt").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    refused = keeping.run("prune", "outputs/q", "--yes", code=1)
    assert "is locked by process" in refused
    assert "A sweep that runs applies hydra.sweeper.keep itself" in refused
    os.killpg(driver.pid, signal.SIGKILL)
    driver.communicate()
    shown = keeping.run("prune", "outputs/q", "--yes")
    assert "0000" in shown
    assert "0001" not in shown, "it will go on"
    assert kept(keeping)[0] == {3: SLIM}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["outputs"], "outputs is not a study folder"),
        (["outputs/q", "--keep", "all"], "--keep: Received 'all', which removes nothing."),
        (["outputs/q", "--keep", "0"], "--keep: Received '0'. Expected best"),
    ],
)
def test_prune_refuses_with_a_sentence(keeping, arguments: list[str], message: str) -> None:
    study = keeping.path / "outputs" / "q"
    study.mkdir(parents=True)
    record = {"name": "q", "objective": ["a"], "directions": ["minimize"], "command": ["python"]}
    (study / "study.json").write_text(json.dumps({**record, "storage": "sqlite:///study.db"}))
    (study / "study.db").touch()
    output = keeping.run("prune", *arguments, code=1)
    assert message in output
    assert "Traceback" not in output


def test_a_policy_that_there_is_not_is_refused_before_anything_starts(keeping) -> None:
    output = keeping.run(*NONE, "hydra.sweeper.keep=some", *grid(0, 1), code=1)
    assert "hydra.sweeper.keep: Received 'some'. Expected best" in output
    assert not (keeping.path / "outputs" / "q" / "trials" / "0000").exists()


def test_a_sweep_that_the_disk_will_not_hold_says_so_after_its_first_trials(keeping) -> None:
    free = shutil.disk_usage(keeping.path).free
    large = f'(run.dir.path / "dump").open("w").truncate({free})'  # it has no blocks
    keeping.module("keeping", TRAINING.replace("    x = cfg", f"    {large}\n    x = cfg"))
    output = keeping.run(*NONE, *grid(*range(6)))
    assert "The disk will not do: the other 2 trials need about" in output
    assert "Keep less:  hydra.sweeper.keep=1" in output
    assert output.count("The disk will not do") == 1
