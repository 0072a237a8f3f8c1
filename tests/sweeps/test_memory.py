"""A sweep of which many points do not fit into memory, with real trainings that run out of it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
PAGE = (Path(__file__).parents[2] / "docs" / "memory.md").read_text()
#: Half of the points fit: those of a width up to about 30,000.
WIDE = """
import resource

def train(run, cfg):
    pages = int(open("/proc/self/statm").read().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * 4096 + 32_000_000, -1))
    run.log({"val/loss": cfg.training.x}, 1)
    weights = b"x" * (1000 * cfg.training.width)
    assert len(weights) == 1000 * cfg.training.width
    return {"val/loss": cfg.training.x}
"""
SWEEP = (
    *("+experiment=quadratic", "training._target_=wide.train", "tracking=csv"),
    "+training.width=tag(log,int(interval(1000,1000000)))",
    *("training.x=interval(-5,5)", "hydra/sweeper/sampler=random", "hydra/sweeper/pruner=none"),
    *("hydra.sweeper.max_failure_rate=1", "hydra.sweeper.n_jobs=1", "-m"),
)


def test_points_that_would_not_fit_are_told_and_not_launched(project) -> None:
    project.module("wide", WIDE)
    project.run(*SWEEP, "hydra.sweeper.n_trials=20")
    first = project.table("quadratic")
    output = project.run(*SWEEP, "hydra.sweeper.n_trials=30")
    table = project.table("quadratic")
    assert list(table["state"][:20]) == list(first["state"])
    widths = {state: table["training.width"][table["state"] == state] for state in table["state"]}
    assert max(widths["completed"]) < 33_000
    assert min(widths["rejected"]) > sorted(widths["out_of_memory"])[1]
    assert len(widths["rejected"]) >= 3
    for number in widths["rejected"].index:
        trial = project.path / f"outputs/quadratic/trials/{number:04d}"
        found = json.loads((trial / "result.json").read_text())
        assert (found["status"], found["reason"]) == ("rejected", table["reason"][number])
        assert not (trial / "attempt.json").exists(), "it was launched"
        assert not (trial / "log.txt").exists()
        if number >= 20:
            assert f"{number:04d} rejected: {found['reason']}" in output
    completed = project.path / f"outputs/quadratic/trials/{widths['completed'].index[0]:04d}"
    peak = json.loads((completed / "result.json").read_text())["peak_memory"]["host"]
    width = table["training.width"][widths["completed"].index[0]]
    assert 10_000_000 < peak - 1000 * width < 500_000_000
    (line,) = project.run("report", "outputs/quadratic", "--json").splitlines()
    assert json.loads(line)["states"]["rejected"] == len(widths["rejected"])
    (seen,) = json.loads(project.run("status", "outputs/quadratic", "--json"))
    assert seen["trials"]["rejected"] == len(widths["rejected"])
    assert project.run("verify", "outputs/quadratic", "--json") == ""
    page = (project.path / "outputs/quadratic/report.html").read_text()
    assert f"{len(widths['rejected'])} rejected" in page


def test_the_documented_command_launches_every_point(project) -> None:
    project.module("wide", WIDE)
    (block,) = re.findall(r"```bash\n(.*?)\n```", PAGE, re.DOTALL)
    (switch,) = re.findall(r"hydra\.sweeper\.predict_memory=\w+", block)
    points = "+training.width=1000,2000,4000,8000,16000,24000,50000,60000,900000,1000000"
    project.run(*SWEEP[:3], points, "hydra.sweeper.max_failure_rate=1", switch, "-m")
    states = list(project.table("quadratic")["state"])
    assert states == ["completed"] * 6 + ["out_of_memory"] * 4
