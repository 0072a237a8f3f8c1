"""What scripts read: reports, differences and plans as lines of JSON."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.slow
SWEEP = ("+experiment=quadratic", "tracking=csv", "hydra.sweeper.n_trials=4", "-m")


def test_a_report_has_all_that_the_leaderboard_and_the_table_have(project) -> None:
    project.run(*SWEEP)
    (line,) = project.run("report", "outputs/quadratic", "--json").splitlines()
    found = json.loads(line)
    table = project.table("quadratic")
    assert found["name"] == "quadratic"
    assert (found["objective"], found["directions"]) == (["val/loss"], ["minimize"])
    assert found["states"] == dict(table["state"].value_counts())
    assert [row["training.x"] for row in found["trials"]] == pytest.approx(
        list(table["training.x"])
    )
    best = table.loc[table["val/loss"].idxmin()]
    assert found["best"][0]["number"] == best["number"]
    assert found["best"][0]["command"] in project.run("report", "outputs/quadratic")
    two = project.run("report", "outputs/quadratic", "outputs/quadratic", "--json")
    assert two.splitlines() == [line, line]
    said = project.run("report", "outputs/quadratic", "--json", "--html", code=2)
    assert "Received --json and --html" in said


def test_each_difference_is_a_line(project) -> None:
    project.run(*SWEEP)
    assert project.run("verify", "outputs/quadratic", "--json") == ""
    metrics = sorted((project.path / "outputs" / "quadratic" / "csv").iterdir())
    metrics[0].write_text("".join(metrics[0].read_text().splitlines(keepends=True)[:-1]))
    lines = project.run("verify", "outputs/quadratic", "--json", code=1).splitlines()
    assert [json.loads(line)["repaired"] for line in lines] == [False]
    assert "csv" in json.loads(lines[0])["difference"]
    lines = project.run("verify", "outputs/quadratic", "--json", "--repair").splitlines()
    assert [json.loads(line)["repaired"] for line in lines] == [True]


def test_a_plan_runs_nothing_and_says_what_would_run(project) -> None:
    output = project.run(*SWEEP, "hydra.sweeper.plan=json", "hydra.sweeper.seed=1")
    plan = json.loads(output)
    assert (plan["name"], plan["n_trials"], plan["grid"]) == ("quadratic", 4, False)
    assert plan["space"] == {
        "training.x": "interval(-5, 5)",
        "training.y": "interval(-5, 5)",
    }
    assert plan["is_exact"]
    assert len(plan["first"]) == 4
    assert not list(project.path.glob("outputs/*"))
    said = project.run(*SWEEP, "hydra.sweeper.plan=yaml", code=1)
    assert "hydra.sweeper.plan: Received 'yaml'. Expected true, false or json." in said
