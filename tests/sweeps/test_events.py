"""What happens in a sweep as lines of JSON: in its own terminal, and in one that is attached."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow
PAGE = (Path(__file__).parents[2] / "docs" / "automation.md").read_text()
JSON = "hydra.sweeper.progress=json"
SWEEP = (
    *("+experiment=quadratic", "training._target_=ends.train", "+training.kind=0", "tracking=none"),
    *("launcher.cpus_per_trial=1", "-m"),
)
ENDS = """
import os, pathlib, time

print("printed by an import")

def train(run, cfg):
    print("printed by a training")
    for step in range(1, 6):
        run.log({"val/loss": float(cfg.training.kind), "nothing": float("nan")}, step)
        if run.should_stop:
            return None
    while cfg.training.kind == 9 and not (run.should_stop or pathlib.Path("go").exists()):
        time.sleep(0.05)
    if cfg.training.kind == 3:
        raise ValueError(os.environ["MY_TOKEN"])
    return {"val/loss": float(cfg.training.kind)}
"""
TOKEN = "s3cret-s3cret-s3cret"


def events(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


class Terminals:
    """Commands in a project, with their standard output apart."""

    def __init__(self, project) -> None:
        self.project = project
        self.open: list[subprocess.Popen[str]] = []
        project.module("ends", ENDS)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            self.project.command(*arguments),
            cwd=self.project.path,
            env={**os.environ, "MY_TOKEN": TOKEN},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.open.append(process)
        return process

    def end(self, process: subprocess.Popen[str], code: int = 0) -> list[dict[str, Any]]:
        output, errors = process.communicate(timeout=120)
        assert process.returncode == code, errors
        return events(output)


@pytest.fixture
def terminals(project) -> Iterator[Terminals]:
    running = Terminals(project)
    yield running
    for process in running.open:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.stdout.close()
        process.stderr.close()
        process.wait()


def documented() -> dict[str, set[str]]:
    """The fields of each event, as the table of the documentation has them."""
    table = PAGE.partition("| event |")[2].partition("\n\n")[0]
    rows = [line.strip("|").split("|") for line in table.splitlines()[2:]]
    return {
        name: {"event", "time", *re.findall(r"`(\w+)`", fields)}
        for names, _, fields in rows
        for name in re.findall(r"`(\w+)`", names)
    }


def test_a_sweep_tells_each_event_as_documented_and_nothing_else(terminals: Terminals) -> None:
    points = "training.kind=1,2,3,0"
    given = {"+training.kind=0": f"+{points}", "tracking=none": "tracking=csv"}
    grid = [given.get(one, one) for one in SWEEP]
    lines = terminals.end(terminals.start(*grid, JSON))
    assert all(documented()[line["event"]] == line.keys() for line in lines)
    assert all(line["time"].endswith("+00:00") for line in lines)
    first, last = lines[0], lines[-1]
    assert (first["event"], first["n_trials"]) == ("sweep_started", 4)
    assert (last["event"], last["reason"], last["missing"]) == ("sweep_ended", "finished", 0)
    assert last["trials"] == {"completed": 3, "pruned": 0, "stopped": 0, "rejected": 0, "failed": 1}
    assert last["best"] == [{"trial": 3, "values": [0.0]}]
    for trial in range(4):
        own = [line for line in lines if line.get("trial") == trial and line["event"] != "best"]
        names = ["trial_started", *["logged"] * 5, "trial_ended"]
        assert [line["event"] for line in own] == names
        assert [line["step"] for line in own[1:-1]] == [1, 2, 3, 4, 5]
        assert own[1]["metrics"]["nothing"] is None
        assert f"+{points[:14]}" in own[0]["overrides"][0]
        if own[0]["overrides"] == ["+training.kind=3"]:
            assert own[-1]["reason"] == "ValueError: ***"
            assert "printed by a training" in own[-1]["log"]
    assert TOKEN not in json.dumps(lines)
    (again,) = terminals.end(terminals.start(*grid, JSON))[-1:]
    assert (again["reason"], again["trials"]) == ("finished", last["trials"])


def test_what_goes_wrong_before_the_start_is_an_event_too(terminals: Terminals) -> None:
    (line,) = terminals.end(terminals.start(*SWEEP, "hydra.sweeper.n_jobs=0", JSON), code=1)
    assert (line["event"], line["reason"]) == ("sweep_ended", "error")
    assert "hydra.sweeper.n_jobs: Received 0" in line["error"]


def test_an_attached_terminal_tells_the_same_until_the_end(terminals: Terminals) -> None:
    sweep = [one.replace("kind=0", "kind=9") for one in SWEEP]
    sweep += ["hydra/sweeper/pruner=none", "hydra.sweeper.n_trials=4", JSON]
    driver = terminals.start(*sweep)
    seen = [json.loads(driver.stdout.readline()) for _ in range(8)]
    assert seen[0]["event"] == "sweep_started"
    attached = terminals.start("attach", "outputs/quadratic", "--json")
    beginning = [json.loads(attached.stdout.readline()) for _ in range(2)]
    assert [line["event"] for line in beginning] == ["sweep_started", "trial_running"]
    driver.send_signal(signal.SIGINT)
    here, there = terminals.end(driver), terminals.end(attached)
    assert (here[-1]["reason"], here[-1]["missing"]) == ("SIGINT", 4)
    assert (there[-1]["reason"], there[-1]["missing"]) == ("stopped", 4)
    (terminals.project.path / "outputs/quadratic/paused").touch()
    driver = terminals.start(*sweep)
    while json.loads(driver.stdout.readline())["event"] != "sweep_paused":
        pass
    attached = terminals.start("attach", "outputs/quadratic", "--json")
    until_paused = [json.loads(attached.stdout.readline()) for _ in range(2)]
    assert [line["event"] for line in until_paused] == ["sweep_started", "sweep_paused"]
    terminals.project.run("resume", "outputs/quadratic")
    (terminals.project.path / "go").touch()
    here, there = terminals.end(driver), terminals.end(attached)
    assert told(here) == told(there)
    assert all(documented()[line["event"]] == line.keys() for line in there)
    resumed = {line["trial"]: line for line in here if line["event"] == "trial_resumed"}
    assert {line["after"] for line in resumed.values()} == {"interrupted"}
    assert {line["attempt"] for line in resumed.values()} == {2}
    assert there[-1]["reason"] == "finished"
    assert there[-1]["best"] == here[-1]["best"]


def told(lines: list[dict[str, Any]]) -> dict[int, list[tuple[Any, ...]]]:
    """What is told of each trial, in order; a record also counts if it was logged earlier."""
    found: dict[int, list[tuple[Any, ...]]] = {}
    for line in lines:
        if "trial" in line and line["event"] not in ("logged", "best"):
            about = line["event"], line.get("attempt"), line.get("status"), line.get("overrides")
            found.setdefault(line["trial"], []).append(about)
        elif line["event"] == "logged":
            found.setdefault(line["trial"], []).append(("logged", line["step"], line["time"]))
    return found


def test_a_single_run_tells_the_same_events(terminals: Terminals) -> None:
    lines = terminals.end(terminals.start(*SWEEP[:4], JSON))
    names = ["sweep_started", "trial_started", *["logged"] * 5, "trial_ended", "sweep_ended"]
    assert [line["event"] for line in lines] == names
    assert lines[1]["trial"] is None
    assert (lines[-1]["reason"], lines[-1]["missing"]) == ("completed", 0)


def test_the_documented_commands_exist(terminals: Terminals) -> None:
    block = PAGE.partition("## Events\n\n```bash\n")[2].partition("```")[0]
    sweep, attach = block.splitlines()
    small = ["experiment=quadratic", "training.seconds=0.2", "hydra.sweeper.n_trials=8"]
    words = sweep.split(" > ")[0].replace("experiment=mnist", small[0]).split()[3:]
    driver = terminals.start(*words[:-1], *small[1:], "tracking=none", words[-1])
    while json.loads(driver.stdout.readline())["event"] != "logged":
        pass
    there = terminals.end(terminals.start(*attach.replace("mnist", "quadratic").split()[3:]))
    assert there[-1]["reason"] == terminals.end(driver)[-1]["reason"] == "finished"
