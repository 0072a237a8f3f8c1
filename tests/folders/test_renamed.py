"""Folders that were written when modules had other names: report, resume, sync, verify, sweep on.

``before_the_move`` holds a study of one trial and an interrupted run, as they were left then.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dlsweep.folders.renamed import with_added_keys, with_todays_names
from dlsweep.folders.rundir import RunDir
from dlsweep.folders.yaml_text import parse_yaml

CONF = Path(__file__).parents[2] / "conf"
OLD = Path(__file__).with_name("before_the_move")
SWEEP = (
    "+experiment=mnist model.hidden=2 training.optimizer.lr=0.01 tracking=[csv] training.epochs=2 "
    "model.dropout=0.1,0.2 hydra.sweeper.study_name=old hydra.sweeper.n_trials=2 -m"
)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    shutil.copytree(OLD, tmp_path / "outputs")
    return tmp_path


def dlsweep(project: Path, arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "dlsweep", *arguments.split()],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_old_run_has_old_names_in_its_file_and_todays_when_it_is_read(project: Path) -> None:
    run = RunDir(project / "outputs/mnist/runs/single")
    assert "dlsweep.trainers.torch.TorchTrainer" in run.config_file.read_text()
    assert run.config()["framework"] == {
        "name": "torch",
        "setup": "dlsweep.torch.setup",
        "trainer": "dlsweep.torch.TorchTrainer",
        "models": "dlsweep.torch",
        "optimizers": "torch.optim",
        "schedulers": "torch.optim.lr_scheduler",
        "env": {},
        "preload": ["torch", "torch._dynamo", "torch.utils.data", "dlsweep.torch", "dlsweep.torch"],
    }


@pytest.mark.parametrize(
    ("old", "now"),
    [
        ("dlsweep.trainers.keras.KerasTrainer", "dlsweep.keras.KerasTrainer"),
        ("dlsweep.optimizers.keras.SGD", "dlsweep.keras.optimizers.SGD"),
        ("dlsweep.schedulers.keras", "dlsweep.keras.schedulers"),
        ("dlsweep.models.keras.ResNet", "dlsweep.keras.ResNet"),
        ("dlsweep.trainers.early_stopping.EarlyStopping", "dlsweep.trainers.EarlyStopping"),
        ("my.dlsweep.models.torch.MLP", "my.dlsweep.models.torch.MLP"),
        ("dlsweep.models.torchlike", "dlsweep.models.torchlike"),
    ],
)
def test_only_whole_old_names_are_replaced(old: str, now: str) -> None:
    assert with_todays_names(f"_target_: {old}\n") == f"_target_: {now}\n"


def test_a_study_lacks_no_key_that_was_added_since(project: Path) -> None:
    """An added key that is missing here would make each older study another one."""
    recorded = set(RunDir(project / "outputs/mnist/runs/single").config()["training"])
    today = parse_yaml((CONF / "training" / "default.yaml").read_text())
    added = {
        f"training.{key}": value
        for key, value in today.items()
        if key not in {*recorded, "defaults"} and value != {}  # an empty dict has no value
    }
    assert added, "a rule about nothing"
    wanted = {key: json.dumps(value) for key, value in added.items()}
    assert with_added_keys({}, wanted) == wanted
    assert with_added_keys({}, {"training.steps": "1"}) == {}, "of keys that are asked for only"
    stored = {"training.evaluate_test": "false"}
    assert with_added_keys(stored, wanted)["training.evaluate_test"] == "false"


@pytest.mark.slow
def test_an_old_run_resumes_from_its_checkpoint_and_syncs(project: Path) -> None:
    run = project / "outputs/mnist/runs/single"
    assert "goes on" in dlsweep(project, "resume outputs/mnist/runs/single")
    records = [json.loads(line) for line in (run / "records.jsonl").read_text().splitlines()]
    epochs = [record["step"] for record in records if "val/accuracy" in record["metrics"]]
    assert epochs == list(range(1, 61))
    assert json.loads((run / "result.json").read_text())["status"] == "completed"
    dlsweep(project, "sync outputs/mnist/runs/single tensorboard")
    assert list(run.glob("tensorboard/events.*"))


@pytest.mark.slow
def test_an_old_study_reports_verifies_and_goes_on(project: Path) -> None:
    assert "1 trial" in dlsweep(project, "report outputs/old")
    assert "agree" in dlsweep(project, "verify outputs/old")
    assert "2 trials (2 completed)" in dlsweep(project, SWEEP)
    assert "agree" in dlsweep(project, "verify outputs/old")
