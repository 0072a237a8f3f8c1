"""Trials of PyTorch over several nodes of a real Slurm cluster."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
TRAINING = (
    "-m",
    "data=none",
    "+data._target_=spread.data",
    "model=mlp",
    "model.input_shape=[2]",
    "model.classes=3",
    "model.hidden=[8]",
    "model.dropout=choice(0.0)",
    "training.epochs=4",
    "training.batch_size=13",
    "system_metrics=null",
)
NODES = ("launcher=slurm", "launcher.nodes_per_trial=2")


def tell(**options: object) -> str:
    given = {"_target_": "spread.Tell", **options}
    return f"training.callbacks=[{json.dumps(given, separators=(',', ':')).replace(chr(34), '')}]"


def curve(trial: Path) -> list[dict[str, float]]:
    lines = (trial / "records.jsonl").read_text().splitlines()
    found = [json.loads(line)["metrics"] for line in lines]
    return [metrics for metrics in found if "val/loss" in metrics]


def nodes(trial: Path) -> dict[str, set[str]]:
    """The nodes of each rank."""
    files = sorted(trial.glob("rank-*"))
    return {
        file.name: {line.split()[0] for line in file.read_text().splitlines()} for file in files
    }


@pytest.mark.parametrize("strategy", ["data_parallel", "fsdp"])
def test_a_trial_on_two_nodes_trains_as_on_one(project, strategy: str) -> None:
    chosen = f"training.strategy={strategy}"
    four = (tell(), "launcher.cpus_per_trial=2", "training.replicas=4")
    project.run(*TRAINING, *NODES, *four, chosen, "hydra.sweeper.study_name=there", experiment="")
    project.run(*TRAINING, "training.replicas=1", "hydra.sweeper.study_name=here", experiment="")
    (there,), (here,) = project.trials("there"), project.trials("here")
    assert nodes(there) == {
        "rank-0": {"n1"},
        "rank-1": {"n1"},
        "rank-2": {"n2"},
        "rank-3": {"n2"},
    }
    assert len(curve(here)) == 4
    for mine, yours in zip(curve(there), curve(here), strict=True):
        assert mine == pytest.approx(yours, rel=1e-4, abs=1e-6)
    assert not (there / "ranks").exists()


def test_the_documented_command(project) -> None:
    page = (Path(__file__).parents[3] / "docs/cluster.md").read_text()
    found = re.search(r"<!-- slurm, two nodes -->\n```bash\npython -m dlsweep (.*)\n```", page)
    assert found
    project.run(*shlex.split(found[1]), experiment="")
    assert set(project.table("default")["state"]) <= {"completed", "pruned"}


@pytest.mark.parametrize("rank", [0, 1])
def test_a_trial_goes_on_when_a_rank_dies(project, rank: int) -> None:
    output = project.run(*TRAINING, *NODES, tell(die_at=2, rank=rank), experiment="")
    (trial,) = project.trials("default")
    assert project.attempts(trial) == 2, output
    assert (trial / "log.txt").read_text().count("that train together was killed by SIGKILL") == 1
    assert [metrics["epoch"] for metrics in curve(trial)] == [1, 2, 3, 4]
    assert set(nodes(trial)["rank-1"]) == {"n2"}


def test_a_trial_goes_on_when_its_job_is_preempted(project, slurm) -> None:
    slow = tell(seconds=0.5)
    driver = project.start(*TRAINING, *NODES, "training.epochs=8", slow, experiment="")
    rank = project.study("default") / "trials/0000/rank-1"
    slurm.wait_until(lambda: rank.exists() and len(rank.read_text().splitlines()) >= 2)
    slurm.ask("sbatch", "--partition=urgent", "--output=/dev/null", "--exclusive", "--wrap=sleep 2")
    output = project.end_of(driver)
    (trial,) = project.trials("default")
    assert project.attempts(trial) == 2, output
    assert "preempted; it will be retried" in output
    told = [int(line.split()[1]) for line in rank.read_text().splitlines()]
    assert told == list(range(1, 9)), "no epoch is trained twice"


def test_a_trial_goes_on_when_its_second_node_is_lost(project, slurm) -> None:
    slow = tell(seconds=0.3)
    driver = project.start(*TRAINING, *NODES, "training.epochs=8", slow, experiment="")
    rank = project.study("default") / "trials/0000/rank-1"
    slurm.wait_until(lambda: rank.exists() and len(rank.read_text().splitlines()) >= 2)
    slurm.lose_node(2)
    slurm.wait_until(lambda: not project.training())
    slurm.start_node(2)
    output = project.end_of(driver)
    (trial,) = project.trials("default")
    assert project.attempts(trial) >= 2, output
    assert [metrics["epoch"] for metrics in curve(trial)] == list(range(1, 9))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["framework=keras"], "which trains in one process"),
        (["training.replicas=3"], "Expected auto, or a multiple of 2"),
        (["launcher.nodes_per_trial=3"], "would wait for ever: PartitionNodeLimit"),
        (["launcher.nodes_per_trial=0"], "launcher.nodes_per_trial: Received 0"),
    ],
)
def test_what_cannot_run_on_several_nodes(project, given: list[str], said: str) -> None:
    assert said in project.run(*TRAINING, *NODES, *given, code=1, experiment="")
    assert not list(project.path.glob("outputs/*/trials/*"))


def test_a_function_of_ones_own_trains_on_one_node(project) -> None:
    where = ("training._target_=where.train", "training.x=range(2)", "-m")
    assert "where.train, which trains in one process" in project.run(*NODES, *where, code=1)


def test_another_node_of_a_trial_that_differs_is_named(project) -> None:
    other = project.path / "other" / "omegaconf-1.0.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: omegaconf\nVersion: 1.0\n")
    shadow = project.path / "sitecustomize.py"  # of the second node only
    shadow.write_text(
        "import os, sys\n"
        "if os.environ.get('SLURMD_NODENAME') == 'n2':\n"
        f"    sys.path.insert(0, {str(other.parent)!r})\n"
    )
    setup = f"launcher.setup=['export PYTHONPATH={project.path}']"
    output = project.run(*TRAINING, *NODES, setup, code=1, experiment="")
    assert "differs from this machine: it has omegaconf 1.0 instead of 2." in output
