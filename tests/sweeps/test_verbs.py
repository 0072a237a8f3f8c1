"""The verbs that watch and steer a running sweep, from other processes, by its folder alone."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest

from dlsweep.cli.main import main

pytestmark = pytest.mark.slow

PAGE = (Path(__file__).parents[2] / "docs" / "running.md").read_text()
STUDY = "outputs/quadratic"
SWEEP = (
    *("+experiment=quadratic", "training._target_=waits.train", "tracking=none"),
    *("hydra/sweeper/pruner=none", "launcher.cpus_per_trial=1", "-m"),
)
#: Trains until the file ``go`` exists; as long as ``deaf`` does, no request to stop is heard.
WAITS = """
import itertools, pathlib, time

def train(run, cfg):
    for step in itertools.count(1):
        loss = cfg.training.x**2 + 1 / step
        run.log({"val/loss": loss}, step)
        if pathlib.Path("go").exists() or (run.should_stop and not pathlib.Path("deaf").exists()):
            return {"val/loss": loss}
        time.sleep(0.05)
"""


def until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


class Sweep:
    """A sweep in a project, seen from other terminals."""

    def __init__(self, project) -> None:
        self.project = project
        self.folder = project.path / STUDY
        self.requests = self.folder / "requests"
        self.started: list[subprocess.Popen[str]] = []
        project.module("waits", WAITS)

    def begin(self, *arguments: str, trials: str = "0000") -> subprocess.Popen[str]:
        """Starts the sweep, and waits until these trials train."""
        (self.project.path / "go").unlink(missing_ok=True)
        driver = self.open(*SWEEP, *arguments)
        locks = [self.folder / "trials" / trial / "records.jsonl" for trial in trials.split()]
        until(lambda: all(lock.exists() for lock in locks) or driver.poll() is not None)
        return driver

    def open(self, *arguments: str) -> subprocess.Popen[str]:
        process = self.project.start(*arguments)
        self.started.append(process)
        return process

    def finish(self) -> str:
        """Runs the sweep to its end."""
        (self.project.path / "go").touch()
        return self.project.run(*SWEEP, "hydra.sweeper.n_trials=2")

    def kill(self, driver: subprocess.Popen[str]) -> None:
        """Kills the driver; its trials notice and end."""
        driver.kill()
        driver.communicate()

    def close(self, process: subprocess.Popen[str], code: int = 0) -> str:
        output, _ = process.communicate(timeout=60)
        assert process.returncode == code, output
        return output

    def status(self) -> dict:
        (found,) = json.loads(self.project.run("status", STUDY, "--json"))
        return found

    def stored(self) -> list[optuna.trial.FrozenTrial]:
        storage = f"sqlite:///{self.folder}/study.db"
        return optuna.load_study(study_name="quadratic", storage=storage).trials

    def result(self, trial: str) -> dict:
        return json.loads((self.folder / "trials" / trial / "result.json").read_text())


@pytest.fixture
def sweep(project) -> Iterator[Sweep]:
    running = Sweep(project)
    yield running
    (project.path / "go").touch()
    for process in running.started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        if process.stdout and not process.stdout.closed:
            process.communicate()


def test_every_documented_verb_works_on_a_running_sweep(sweep: Sweep) -> None:
    driver = sweep.begin("hydra.sweeper.n_trials=24", trials="0000 0001")
    (block,) = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
    said: dict[str, str] = {}
    for line in block.splitlines():
        words = [re.sub("outputs/mnist", STUDY, word) for word in shlex.split(line)[3:]]
        words = [word.replace("0007", "0001") for word in words]
        if words[0] == "attach":
            attached = sweep.open(*words)
            assert "0000 is running  training.x=" in attached.stdout.readline()
            continue
        if words[0] == "enqueue":
            words[2:] = ["training.x=2", "training.y=-1"]
        said[" ".join(words[:2])] = sweep.project.run(*words)
        if words[0] == "pause":
            paused = sweep.status()
    output = sweep.close(driver)
    assert re.search(r"quadratic: running \(process \d+ on .* heartbeat", said["status outputs"])
    assert (paused["paused"], paused["n_trials"], paused["state"]) == (True, 48, "running")
    assert [one["trial"] for one in paused["running"]] == [0, 1]
    assert paused["running"][0]["metrics"]["val/loss"] > 0
    assert "0001 is stopped" in said[f"stop {STUDY}/trials/0001"]
    assert "has stopped: 2 interrupted, 1 stopped" in said[f"stop {STUDY}"]
    assert "Stopping, as asked" in output
    assert "The study has 48 trials from now on." in output
    followed = sweep.close(attached)
    for line in (
        "0001 stopped in",
        "0002 started  training.x=2 ",
        "0000 interrupted",
        "has ended",
    ):
        assert line in followed
    assert "\x1b" not in followed
    failed, next_one = sweep.stored()[1:]
    assert failed.state is optuna.trial.TrialState.FAIL
    assert failed.user_attrs["reason"] == "stopped by the user"
    assert next_one.params == {"training.x": 2.0, "training.y": -1.0}


def test_a_request_to_stop_dies_with_its_driver(sweep: Sweep) -> None:
    (sweep.project.path / "deaf").touch()
    driver = sweep.begin("hydra.sweeper.n_trials=2")
    waiting = sweep.open("stop", STUDY)
    until(lambda: "Waiting for 0000" in waiting.stdout.readline())
    sweep.kill(driver)
    assert "has died" in sweep.close(waiting, code=1)
    assert sweep.status()["state"] == "died"
    assert "has died. There is nothing to stop" in sweep.project.run("stop", STUDY, code=1)
    for name, kind in (("1.json", "stop"), ("2.json", "kill")):
        (sweep.requests / name).write_text(json.dumps({"kind": kind, "driver": "an earlier one"}))
    output = sweep.finish()
    assert "as asked" not in output
    assert [sweep.result(name)["status"] for name in ("0000", "0001")] == ["completed"] * 2
    assert not list(sweep.requests.iterdir())
    assert "is not running" in sweep.project.run("stop", STUDY, code=1)
    assert sweep.status()["state"] == "finished"


def test_what_is_enqueued_and_extended_survives_kills_and_happens_once(sweep: Sweep) -> None:
    driver = sweep.begin("hydra.sweeper.n_trials=2", trials="0000 0001")
    os.kill(driver.pid, signal.SIGSTOP)  # so that no request is taken before it dies
    point = ("training.x=0.5", "training.y=0.25")
    left = sweep.open("enqueue", STUDY, *point)
    until(lambda: list(sweep.requests.glob("*.json")))
    (request,) = sweep.requests.glob("*.json")
    text = request.read_text()
    sweep.kill(driver)
    assert "the next one does" in sweep.close(left)
    assert "the next one does" in sweep.project.run("extend", STUDY, "--n-trials", "4")
    assert sweep.status()["requests"] == ["enqueue", "extend"]
    driver = sweep.begin("hydra.sweeper.n_trials=2", trials="0000 0001")
    until(lambda: not list(sweep.requests.glob("*.json")))
    sweep.kill(driver)
    request.write_text(text)  # as if it had been killed before it removed the request
    output = sweep.finish()
    assert "4 trials" in output
    assert not list(sweep.requests.glob("*.json"))
    points = [trial.params for trial in sweep.stored()]
    assert len(points) == 4
    assert points[2] == {"training.x": 0.5, "training.y": 0.25}
    assert points.count(points[2]) == 1
    assert sweep.finish().count("4 trials") == 1, "it stays extended, and is complete"


def test_a_trial_can_be_stopped_while_no_driver_runs(sweep: Sweep) -> None:
    driver = sweep.begin("hydra.sweeper.n_trials=2", trials="0000 0001")
    sweep.kill(driver)
    until(lambda: (sweep.folder / "trials/0001/result.json").exists())
    trial = f"{STUDY}/trials/0001"
    assert "no driver starts it again" in sweep.project.run("stop", trial)
    steps = (sweep.folder / "trials/0001/records.jsonl").read_text()
    output = sweep.finish()
    assert "(1 completed, 1 stopped)" in output
    assert (sweep.folder / "trials/0001/records.jsonl").read_text() == steps
    assert "is stopped already" in sweep.project.run("stop", trial, code=1)


def test_now_kills_a_trial_or_all_that_runs(sweep: Sweep) -> None:
    (sweep.project.path / "deaf").touch()
    driver = sweep.begin("hydra.sweeper.n_trials=3", trials="0000 0001")
    assert "is stopped" in sweep.project.run("stop", f"{STUDY}/trials/0001", "--now")
    until(lambda: (sweep.folder / "trials/0002/records.jsonl").exists())
    sweep.project.run("stop", STUDY, "--now")
    assert "killed" in sweep.close(driver)
    assert sweep.result("0001")["status"] == "stopped"


def test_a_pause_outlives_its_driver(sweep: Sweep) -> None:
    sweep.kill(sweep.begin("hydra.sweeper.n_trials=2"))
    sweep.project.run("pause", STUDY)
    (sweep.project.path / "go").touch()
    driver = sweep.open(*SWEEP, "hydra.sweeper.n_trials=2")
    until(lambda: "The study is paused" in driver.stdout.readline())
    assert sweep.status()["running"] == []
    assert "goes on" in sweep.project.run("resume", STUDY)
    assert "(2 completed)" in sweep.close(driver)
    assert "is not paused" in sweep.project.run("resume", STUDY)


def test_a_single_run_is_stopped_and_resumed(sweep: Sweep) -> None:
    run = sweep.open(*SWEEP[:3])
    until(lambda: list(sweep.project.path.glob(f"{STUDY}/runs/*/records.jsonl")))
    (folder,) = sweep.project.path.glob(f"{STUDY}/runs/*")
    assert "is interrupted" in sweep.project.run("stop", str(folder))
    sweep.close(run)
    assert "is not running" in sweep.project.run("stop", str(folder), code=1)
    (sweep.project.path / "go").touch()
    sweep.project.run("resume", str(folder))
    assert "is completed already" in sweep.project.run("stop", str(folder), code=1)


def test_a_verb_that_cannot_work_says_why(project, monkeypatch, capsys) -> None:
    small = ("+experiment=quadratic", "tracking=none", "training.seconds=0", "-m")
    project.run(*small, "hydra.sweeper.n_trials=1")
    project.run(*small, "training.x=1,2", "hydra.sweeper.study_name=grid")
    for words, sentence in (
        (f"enqueue {STUDY} training.z=1", "'training.z' is not swept"),
        (f"enqueue {STUDY} training.x=9", "training.x=9 is outside of its space, -5 to 5."),
        (f"enqueue {STUDY} training.x=1,2", "Received no single value"),
        (f"enqueue {STUDY} training.x", "Expected key=value"),
        (f"enqueue {STUDY} training.x=1 training.x=2", "is given twice"),
        (f"extend {STUDY} --n-trials 1", "Expected more than 1"),
        ("extend outputs/grid --n-trials 9", "tries every point of its space once"),
        ("enqueue outputs/grid training.x=1", "tries every point of its space once"),
        (f"attach {STUDY}", "is not running"),
        ("status nowhere", "is not a study folder"),
        ("stop nowhere", "is no study folder and no run folder"),
        ("pause nowhere", "is not a study folder"),
    ):
        monkeypatch.setattr(sys, "argv", ["dlsweep", *words.split()])
        monkeypatch.chdir(project.path)
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 1
        assert sentence in capsys.readouterr().err, words
    assert not (project.path / STUDY / "requests").exists()
    hint = "extend outputs/quadratic --n-trials 2"
    assert hint in project.run("enqueue", STUDY, "training.x=1")
    both = json.loads(project.run("status", "--json"))
    assert {one["name"]: one["trials"] for one in both} == {
        "grid": {"completed": 2},
        "quadratic": {"completed": 1},
    }


def test_what_is_no_request_is_named_and_does_nothing(sweep: Sweep) -> None:
    sweep.kill(sweep.begin("hydra.sweeper.n_trials=2"))
    sweep.requests.mkdir()
    os.mkfifo(sweep.requests / "1.json")
    (sweep.requests / "2.json").symlink_to("/etc/passwd")
    (sweep.requests / "3.json").write_bytes(b" " * 100_000)
    (sweep.requests / "4.json").write_text("[" * 50_000)
    (sweep.requests / "5.json").write_text('{"kind": "system", "command": "reboot"}')
    (sweep.requests / "6.json").write_text('{"kind": "enqueue", "params": {"training.x": [1]}}')
    (sweep.requests / "7.json").write_text('{"kind": "extend", "n_trials": true}')
    (sweep.requests / "8.json").mkdir()
    assert "1.json is not a regular file" in sweep.project.run("status", STUDY)
    output = sweep.finish()
    for number in (1, 2, 3, 4, 5, 7, 8):
        assert output.count(f"/{number}.json") == 1
    assert "training.x=[1] is outside of its space" in output
    assert "(2 completed)" in output
    assert sorted(path.name for path in sweep.requests.iterdir()) == [
        f"{number}.json" for number in (1, 2, 3, 4, 5, 7, 8)
    ]


def test_a_terminal_that_is_attached_shows_the_table_until_ctrl_c(sweep: Sweep) -> None:
    driver = sweep.begin("hydra.sweeper.n_trials=2")
    ours, theirs = pty.openpty()
    attached = subprocess.Popen(
        sweep.project.command("attach", STUDY),
        cwd=sweep.project.path,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
        stdout=theirs,
        start_new_session=True,
    )
    sweep.started.append(attached)
    shown = ""
    while not ("/2 slots" in shown or "/1 slots" in shown):
        assert select.select([ours], [], [], 60)[0], shown
        shown += os.read(ours, 1 << 16).decode()
    attached.send_signal(signal.SIGINT)
    deadline = time.monotonic() + 60
    while attached.poll() is None and time.monotonic() < deadline:
        if select.select([ours], [], [], 0.1)[0]:  # unread, a full terminal would hold it up
            os.read(ours, 1 << 16)
    assert attached.poll() == 0
    os.close(theirs)
    os.close(ours)
    assert "0/2 trials" in shown
    assert driver.poll() is None
    (sweep.project.path / "go").touch()
    assert "(2 completed)" in sweep.close(driver)


APP = """
import time, hydra
import dlsweep

@hydra.main(version_base=None, config_path=None, config_name=None)
def main(cfg):
    for step in range(10_000):
        if dlsweep.report(cfg.x, step):
            return cfg.x
        time.sleep(0.05)

main()
"""


def test_a_sweep_of_another_app_has_the_same_verbs(sweep: Sweep) -> None:
    sweep.project.module("app", APP)
    where = ("hydra/sweeper=dlsweep", "hydra.sweep.dir=there", "hydra.sweeper.n_trials=4")
    driver = subprocess.Popen(
        [sys.executable, "app.py", *where, "+x=interval(0,1)", "-m"],
        cwd=sweep.project.path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    sweep.started.append(driver)
    trials = sweep.project.path / "there" / "trials"
    until(lambda: (trials / "0000" / "records.jsonl").exists())
    assert "is stopped" in sweep.project.run("stop", "there/trials/0000")
    sweep.project.run("enqueue", "there", "x=0.5")
    assert "has stopped" in sweep.project.run("stop", "there")
    assert "1 stopped" in sweep.close(driver)
