"""A run folder or a study that came from anybody: nothing in it is executed, nothing is escaped."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from omegaconf import OmegaConf

pytestmark = pytest.mark.slow
ALONE = ("tracking=none", "training._target_=walk.train", "training.steps=3")
#: What a config may try, as overrides of the one in the folder; each would leave a file behind.
TRIES = {
    "training._target_": "os.system",
    "model._target_": "shutil.copyfile",
    "callbacks": [{"_target_": "builtins.open", "file": "owned", "mode": "w"}],
    "framework.setup": "evil.now",
    "launcher._target_": "subprocess.Popen",
    "launcher.preload": ["antigravity"],
    "launcher.env": {"LD_PRELOAD": "owned.so"},
    "training.hook._target_": "dlsweep.folders.rundir.write_atomically",
    "data._target_": "torch.nn.modules.module.os.system",
}


def dlsweep(sweeps, *words: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dlsweep", *words],
        cwd=sweeps.path,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture(scope="module")
def made(undisturbed) -> Path:
    """The project of a single run that may go on, for all tests."""
    undisturbed.run(*ALONE)
    (run,) = undisturbed.study("quadratic").glob("runs/*")
    (run / "result.json").unlink()
    return undisturbed.path


@pytest.fixture
def alone(sweeps, made: Path) -> Path:
    """A single run that may go on, of each test's own."""
    shutil.copytree(made, sweeps.path, dirs_exist_ok=True)
    (run,) = sweeps.study("quadratic").glob("runs/*")
    return run


def _attack(run: Path, **tree: object) -> None:
    """Puts these values at the top of a run's config."""
    file = run / ".hydra" / "config.yaml"
    OmegaConf.save(OmegaConf.merge(OmegaConf.load(file), tree), file)


@pytest.mark.parametrize(
    "target",
    [
        "${t.${oc.env:DLSWEEP_THREADS,'no'}}",  # set in a trial, not in the driver
        "${oc.env:DLSWEEP_RUN,walk.train}",
        "${oc.decode:walk.train}",
        "${indirect}",
    ],
)
def test_a_target_that_another_environment_resolves_otherwise_is_refused(
    sweeps, alone, target: str
) -> None:
    threads = {str(count): "evil.now" for count in range(1, 65)}
    (sweeps.path / "evil.py").write_text("open('owned', 'w')\nnow = print\n")
    _attack(
        alone,
        t={"no": "walk.train", **threads},
        indirect="${t.${oc.env:DLSWEEP_THREADS,'no'}}",
        training={"_target_": target},
    )
    done = dlsweep(sweeps, "resume", alone)
    assert done.returncode == 1
    assert "Received" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (sweeps.path / "owned").exists()


def test_a_whole_node_that_another_environment_resolves_otherwise_is_refused(sweeps, alone) -> None:
    _attack(alone, t={"no": None}, callbacks="${t.${oc.env:DLSWEEP_THREADS,'no'}}")
    done = dlsweep(sweeps, "resume", alone)
    assert done.returncode == 1
    assert "callbacks: Received" in done.stderr
    assert "name it in a YAML file under ./conf" in done.stderr


def test_plain_references_and_variables_of_the_environment_go_on(sweeps, alone) -> None:
    _attack(alone, note={"steps": "${training.steps}", "who": "${oc.env:HOME,nobody}/x"})
    done = dlsweep(sweeps, "resume", alone)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("verb", ["check", "sync", "report"])
def test_overrides_that_a_run_folder_gives_are_no_command_line(sweeps, alone, verb: str) -> None:
    trap = sweeps.path / "trap"
    trap.mkdir()
    (sweeps.path / "evil.py").write_text("open('owned', 'w')\n")
    (trap / "configs.json").write_text('[{"training": {"_target_": "evil.now"}}]')
    info = json.loads((alone / "run.json").read_text())
    (alone / "run.json").write_text(json.dumps({**info, "overrides": [verb, str(trap)]}))
    done = dlsweep(sweeps, "resume", alone)
    assert done.returncode == 0, done.stderr
    assert json.loads((alone / "result.json").read_text())["status"] == "completed"
    assert not (sweeps.path / "owned").exists()
    assert not (trap / "problems.json").exists()


@pytest.mark.parametrize("what", ["study.json", "run.json", "runs", "trials"])
def test_a_study_folder_is_no_project(sweeps, alone, what: str) -> None:
    _attack(alone, training={"_target_": "evil.now"})
    received = sweeps.path / "received"
    received.mkdir()
    (received / "evil.py").write_text("open('owned', 'w')\nnow = print\n")
    (received / what).mkdir() if "." not in what else (received / what).write_text("{}")
    for folder, target in ((received, "evil.now"), (sweeps.path, "received.evil.now")):
        _attack(alone, training={"_target_": target})
        done = subprocess.run(
            [sys.executable, "-m", "dlsweep", "resume", alone],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 1
        assert f"training._target_: Received '{target}'" in done.stderr
        assert not list(sweeps.path.rglob("owned"))


@pytest.mark.parametrize("verb", ["sync", "verify"])
def test_a_tracker_that_comes_with_a_study_is_not_imported(sweeps, alone, verb: str) -> None:
    info = json.loads((alone / "run.json").read_text())
    tracking = {"evil": {"_target_": "evil.Tracker"}}
    (alone / "run.json").write_text(json.dumps({**info, "tracking": tracking}))
    study = alone.parents[1]
    (study / "evil.py").write_text("open('owned', 'w')\n")
    done = subprocess.run(
        [sys.executable, "-m", "dlsweep", verb, alone.relative_to(study)],
        cwd=study,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    assert "tracking.evil: Received 'evil.Tracker', a module in a run's or" in done.stderr
    assert not list(sweeps.path.rglob("owned"))


def test_a_config_may_call_only_what_is_known(sweeps, alone) -> None:
    file = alone / ".hydra" / "config.yaml"
    honest = OmegaConf.load(file)
    for key, value in TRIES.items():
        config = honest.copy()
        OmegaConf.update(config, key, value, force_add=True)
        OmegaConf.save(config, file)
        done = dlsweep(sweeps, "resume", alone)
        assert done.returncode == 1, key
        assert key in done.stderr
        assert "It is not run, because a run folder may come from anybody" in done.stderr
        assert "Traceback" not in done.stderr
    assert not list(sweeps.path.rglob("owned*"))
    OmegaConf.save(honest, file)
    assert dlsweep(sweeps, "resume", alone).returncode == 0, (
        "what the project itself defines is known"
    )


def test_a_record_may_name_no_tracker_that_is_none(sweeps, alone) -> None:
    record = json.loads((alone / "run.json").read_text())
    record["tracking"] = {"evil": {"_target_": "subprocess.Popen", "args": ["touch", "owned"]}}
    (alone / "run.json").write_text(json.dumps(record))
    done = dlsweep(sweeps, "resume", alone)
    assert done.returncode == 1
    assert "tracking.evil does not build a tracker" in done.stderr
    assert not (sweeps.path / "owned").exists()


def test_a_sweep_trusts_no_folder_of_its_trials(sweeps) -> None:
    arguments = (*ALONE, "training.x=choice(1)", "-m")
    driver = sweeps.start(*arguments, "training.seconds=0.3")
    trial = sweeps.study("quadratic") / "trials" / "0000"
    while not (trial / "work.txt").exists():
        assert driver.poll() is None
    driver.terminate()
    driver.communicate(timeout=60)
    config = OmegaConf.load(trial / ".hydra" / "config.yaml")
    config.training._target_ = "os.system"
    OmegaConf.save(config, trial / ".hydra" / "config.yaml")
    (trial / "log.txt").unlink()
    (sweeps.path / "mine").write_text("mine")
    (trial / "log.txt").symlink_to(sweeps.path / "mine")
    sweeps.run(*arguments, "training.seconds=0.3")
    sweeps.assert_exactly_once("quadratic", 1)
    assert (sweeps.path / "mine").read_text() == "mine"


@pytest.mark.parametrize("name", ["records.jsonl", "lock"])
def test_a_link_in_a_run_folder_is_not_written_through(sweeps, alone, name: str) -> None:
    (sweeps.path / "mine").write_text("mine")
    (alone / name).unlink()
    (alone / name).symlink_to(sweeps.path / "mine")
    assert dlsweep(sweeps, "resume", alone).returncode == 1
    assert (sweeps.path / "mine").read_text() == "mine"


@pytest.mark.parametrize("name", ["", "checkpoints", ".hydra", "media"])
def test_a_folder_that_leads_elsewhere_is_not_written_into(sweeps, name: str) -> None:
    (sweeps.path / "mine").mkdir()
    trial = sweeps.study("quadratic") / "trials" / "0000"
    slowly = (*ALONE, "training.steps=100", "training.seconds=0.1", "training.x=choice(1)", "-m")
    driver = sweeps.start(*slowly)
    while not (trial / "work.txt").exists():
        time.sleep(0.02)
    sweeps.kill_all(driver)
    shutil.rmtree(trial / name, ignore_errors=True)
    (trial / name).symlink_to(sweeps.path / "mine")
    output = sweeps.run(*slowly, code=1)
    assert f"{trial / name} is a link to {sweeps.path / 'mine'}" in output
    assert not list((sweeps.path / "mine").iterdir())


@pytest.mark.parametrize(
    "record",
    ["", "[]", '{"storage": 3}', '{"storage": "sqlite:///owned.db", "name": "x"}'],
)
def test_a_study_record_opens_no_database_elsewhere(sweeps, record: str) -> None:
    study = sweeps.study("foreign")
    study.mkdir(parents=True)
    if "owned" in record:
        more = {"objective": ["a"], "directions": ["minimize"], "command": ["python"]}
        record = json.dumps({**json.loads(record), **more})
    (study / "study.json").write_text(record)
    done = dlsweep(sweeps, "report", study)
    assert done.returncode == 1
    assert ("names storage=sqlite" if "owned" in record else "study.json") in done.stderr
    assert "Traceback" not in done.stderr
    assert not (sweeps.path / "owned.db").exists()


DEEP = "[" * 100_000 + "]" * 100_000
#: A file of a run folder, what somebody puts there, and a verb that reads it.
DAMAGE = {
    "records.jsonl": '{"step": 1e999, "time": 1.0, "metrics": {}}\n',
    "run.json": DEEP,
    "result.json": "[]",
    "attempts.jsonl": f'{{"status": {DEEP}}}\n',
    ".hydra/config.yaml": "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n",
    "checkpoints/step-00000009/manifest.json": DEEP,
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_file_is_a_sentence(sweeps, alone, name: str) -> None:
    (alone / name).parent.mkdir(parents=True, exist_ok=True)
    (alone / name).write_text(DAMAGE[name])
    for words in (["resume"], ["sync", "csv"], ["verify", "csv"]):
        done = dlsweep(sweeps, words[0], alone, *words[1:])
        assert "Traceback" not in done.stderr, (words, done.stderr)
        if name in ("records.jsonl", "run.json", "result.json", ".hydra/config.yaml"):
            said = done.stderr + (alone / "log.txt").read_text()
            assert f"{Path(name).name} is damaged" in said or words != ["resume"]


@pytest.mark.parametrize(
    "name", ["records.jsonl", "run.json", "result.json", "system.jsonl", ".hydra/config.yaml"]
)
def test_a_named_pipe_makes_nothing_wait(sweeps, alone, name: str) -> None:
    (alone / name).unlink(missing_ok=True)
    os.mkfifo(alone / name)
    for words in (["resume"], ["sync", "csv"], ["verify", "csv"]):
        done = dlsweep(sweeps, words[0], alone, *words[1:])
        assert "Traceback" not in done.stderr, (words, done.stderr)
        if words == ["resume"]:
            assert f"{alone / name} is not a regular file" in done.stderr


def test_a_name_sends_the_terminal_no_command(sweeps) -> None:
    sweeps.run(*ALONE, "training.x=1,2", "-m")
    study = sweeps.study("quadratic")
    record = json.loads((study / "study.json").read_text())
    evil = {**record, "command": ["python", "\x1b]0;owned\x07"]}
    (study / "study.json").write_text(json.dumps(evil))
    done = dlsweep(sweeps, "report", study)
    assert "\\x1b]0;owned\\x07" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr
    (study / "study.json").write_text(json.dumps({**record, "name": "x\x1b[2J"}))
    done = dlsweep(sweeps, "report", study)
    assert "has no study 'x\\x1b[2J'" in done.stderr
    assert "\x1b" not in done.stderr


@pytest.fixture
def foreign() -> Iterator[socket.socket]:
    """A server that somebody else would like to be told something."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


def assert_untold(server: socket.socket) -> None:
    with pytest.raises(BlockingIOError):
        server.accept()


def test_a_tracker_that_no_command_has_named_is_told_nothing(
    sweeps, alone, foreign, addresses
) -> None:
    uri = f"http://user:${{oc.env:HOME}}@127.0.0.1:{foreign.getsockname()[1]}"
    record = json.loads((alone / "run.json").read_text())
    options = {"_target_": "dlsweep.trackers.mlflow.MLflowTracker", "tracking_uri": uri}
    (alone / "run.json").write_text(json.dumps({**record, "tracking": {"mlflow": options}}))
    line = f"tracking.mlflow.tracking_uri={uri}"
    for words in ("resume", "sync", "verify", "ui mlflow --folder"):
        path = alone.parent.parent if "--folder" in words else alone
        done = dlsweep(sweeps, *words.split(), path)
        assert done.returncode == 1, words
        assert f"{alone} names {line}, which no command of yours has named." in done.stderr
        assert f"add this line to {addresses}:\n  {line}\n" in done.stderr
    assert_untold(foreign)


def test_a_storage_that_no_command_has_named_is_not_opened(sweeps, foreign) -> None:
    study = sweeps.study("foreign")
    study.mkdir(parents=True)
    record = {
        "storage": f"postgresql://me:${{oc.env:HOME}}@127.0.0.1:{foreign.getsockname()[1]}/x",
        "name": "foreign",
        "objective": ["a"],
        "directions": ["minimize"],
        "command": ["python"],
        "tracking": {},
    }
    (study / "study.json").write_text(json.dumps(record))
    for words in ("report", "verify", "ui optuna --folder"):
        done = dlsweep(sweeps, *words.split(), study)
        assert done.returncode == 1, words
        assert f"names storage={record['storage']}, which no command" in done.stderr
    assert_untold(foreign)


def test_what_a_command_has_named_is_believed_from_then_on(sweeps, addresses) -> None:
    elsewhere = f"sqlite:///{sweeps.path}/elsewhere.db"
    option = f"tracking.mlflow.tracking_uri={elsewhere}"
    sweeps.run(*ALONE[1:], "tracking=mlflow", option, "hydra.run.dir=outputs/quadratic/runs/one")
    assert option in addresses.read_text().splitlines()
    run = sweeps.study("quadratic") / "runs" / "one"
    assert "agree" in dlsweep(sweeps, "verify", run).stdout
    another = {"XDG_STATE_HOME": str(sweeps.path / "another")}
    said = dlsweep(sweeps, "sync", run, **another).stderr
    assert f"names {option}, which no command" in said
    assert dlsweep(sweeps, "sync", run, option, **another).stdout == "mlflow: 0 new records\n"
    assert dlsweep(sweeps, "sync", run, **another).stdout == "mlflow: 0 new records\n"


def test_what_cannot_be_remembered_is_not_begun(sweeps) -> None:
    (sweeps.path / "file").touch()
    (sweeps.path / "elsewhere").mkdir()
    option = f"tracking.mlflow.tracking_uri=sqlite:///{sweeps.path}/elsewhere/mlflow.db"
    for more in ((), ("training.x=1,2", "-m")):
        arguments = (*ALONE[1:], "tracking=[mlflow]", option, *more)
        said = sweeps.run(*arguments, code=1, XDG_STATE_HOME=str(sweeps.path / "file"))
        assert "cannot be written: Not a directory" in said
        assert "export XDG_STATE_HOME=" in said
    assert not [*sweeps.path.rglob("run.json")]


def test_a_malicious_checkpoint_executes_nothing(tmp_path: Path, make_run, capsys) -> None:
    """A pickle that would write a file, behind a manifest that is right in every way."""
    code = """
import functools, json, os, pickle, sys, torch
from pathlib import Path
from dlsweep.run.run import Run
from dlsweep.torch.trainer import TorchTrainer
from dlsweep.errors import CheckpointError

class Evil:
    def __reduce__(self):
        return (open, (sys.argv[2], "w"))

def arrays(n):
    return torch.rand(n, 4).numpy(), (torch.arange(n) % 2).numpy()

class Small(TorchTrainer):
    def build_model(self, run): return torch.nn.Linear(4, 2)
    def build_data(self, run): return {"train": arrays(256), "validation": arrays(8)}

with Run.open(sys.argv[1]) as run:
    run.checkpoints.save(1, lambda folder: torch.save({"model": Evil()}, folder / "state.pt"))
    try:
        Small(functools.partial(torch.optim.SGD, lr=0.1), epochs=2).fit(run)
    except CheckpointError as error:
        print(error)
"""
    owned = tmp_path / "owned"
    command = [sys.executable, "-c", code, str(make_run().path), str(owned)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert "does not fit this model" in done.stdout, done.stderr
    assert not owned.exists()
