"""Sweeps on a Ray cluster of two nodes, one of them behind a network that can be cut."""

from __future__ import annotations

import json
import re
import secrets
import signal
from importlib.metadata import distribution
from pathlib import Path

import pytest
from ray_nodes import OWN, Cluster, Project, kill, steps_of, wait_for

import dlsweep

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

RAY = ("launcher=ray", "launcher.slots=1")
FAR = (*RAY, "+launcher.resources.far=1")
NEAR = (*RAY, "+launcher.resources.near=1")
#: A Hydra app of a user's own.
APP = """
import hydra, dlsweep

@hydra.main(version_base=None, config_path=None, config_name=None)
def main(cfg):
    for step in range(3):
        dlsweep.report(cfg.x + step, step)
    return cfg.x

main()
"""
#: Says what a trial has, in its log.
SAYS = """
import os

def train(run, cfg):
    names = ("MINE", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")
    print("it has", *(f"{name}={os.environ.get(name)}" for name in names))
    return {"val/loss": 1.0}
"""


@pytest.fixture(params=["shared", "streamed"])
def outputs(request: pytest.FixtureRequest, cluster: Cluster, tmp_path: Path) -> str:
    """The folder of results, which the far node sees, or not."""
    return outputs_of(request.param, cluster, tmp_path)


def outputs_of(kind: str, cluster: Cluster, tmp_path: Path) -> str:
    return "outputs" if kind == "shared" else str(cluster.hidden / tmp_path.name)


def attempt_of(trial: Path) -> int:
    return int(json.loads((trial / "attempt.json").read_text())["attempt"])


def assert_whole(trial: Path, steps: int) -> None:
    """Every record is there once, and the newest checkpoint is of the last step."""
    assert steps_of(trial) == list(range(1, steps + 1))
    kept = sorted(path.name for path in (trial / "checkpoints").iterdir())
    assert f"step-{steps:08d}" in kept
    assert len(kept) >= 2
    assert all(name.startswith("step-") for name in kept), f"a part is left: {kept}"
    assert json.loads((trial / "result.json").read_text())["status"] == "completed"


def test_a_trial_survives_its_worker_and_its_driver(
    joined: Project, cluster: Cluster, outputs: str
) -> None:
    walk = joined.walk("walk", *FAR, f"outputs={outputs}", "hydra.sweeper.n_trials=1", steps=40)
    slowly = [text.replace("seconds=0.01", "seconds=0.1") for text in walk]
    trial = joined.trial("walk", outputs=outputs)
    first = joined.start(*slowly)
    wait_for(lambda: len(steps_of(trial)) > 3, first)
    kill(cluster.far_processes("ray::Actor"))
    joined.read_until(first, "is lost: The actor is dead")
    joined.read_until(first, "goes on")
    before = len(steps_of(trial))
    wait_for(lambda: len(steps_of(trial)) > before + 3, first)
    attempt = attempt_of(trial)
    kill([first.pid])
    joined.run(*slowly)
    assert attempt_of(trial) == attempt, "the running trial was not adopted"
    assert_whole(trial, 40)
    samples = [
        json.loads(line)["step"] for line in (trial / "system.jsonl").read_text().splitlines()
    ]
    assert samples == list(range(len(samples)))
    assert samples
    joined.run(*joined.walk("here", "hydra.sweeper.n_trials=1", steps=40))
    assert joined.table("walk", outputs).equals(joined.table("here"))
    assert not cluster.far_processes("ray::Actor")


def test_a_trial_whose_driver_stays_away_saves_and_ends(
    joined: Project, cluster: Cluster, tmp_path: Path
) -> None:
    outputs = outputs_of("streamed", cluster, tmp_path)
    asked = (*FAR, f"outputs={outputs}", "launcher.patience=5", "hydra.sweeper.n_trials=1")
    walk = joined.walk("walk", *asked, steps=12, seconds=0.2)
    driver, trial = joined.start(*walk), joined.trial("walk", outputs=outputs)
    wait_for(lambda: len(steps_of(trial)) > 3, driver)
    kill([driver.pid])
    wait_for(lambda: not cluster.far_processes("ray::Actor"))
    assert len(steps_of(trial)) < 12, "it has waited for its verdict, and has ended early"
    told = joined.run(*walk)
    assert "0000 goes on" in told
    assert_whole(trial, 12)


def test_a_trial_behind_a_cut_network_is_replaced(
    joined: Project, cluster: Cluster, tmp_path: Path
) -> None:
    drivers, trials, hurry = {}, {}, tmp_path / "hurry"
    for kind, slots in {"shared": 1, "streamed": 2}.items():
        outputs = outputs_of(kind, cluster, tmp_path)
        asked = [*FAR, f"launcher.slots={slots}", f"outputs={outputs}", "hydra.sweeper.n_trials=1"]
        asked.append(f"+training.hurry={hurry}")
        drivers[kind] = joined.start(*joined.walk(kind, *asked, steps=200, seconds=0.2))
        trials[kind] = joined.trial(kind, outputs=outputs)
        # One after the other: both slots of the second would leave the first none.
        wait_for(lambda kind=kind: len(steps_of(trials[kind])) > 3, drivers[kind])
    wait_for(lambda: len(cluster.far_processes("ray::")) >= 2)
    try:
        cluster.cut()
        told = {
            kind: joined.read_until(driver, "has not answered for 15 s")
            for kind, driver in drivers.items()
        }
    finally:
        cluster.mend()
    assert "1 of 2 slots wait for the cluster" in told["streamed"]
    for kind, driver in drivers.items():
        wait_for(lambda kind=kind: attempt_of(trials[kind]) > 1, driver)
    hurry.touch()
    for kind, driver in drivers.items():
        output, _ = driver.communicate()
        assert driver.returncode == 0, output
        assert "node_lost" in output
        assert_whole(trials[kind], 200)


def test_a_trial_goes_on_when_its_raylet_is_killed(joined: Project, cluster: Cluster) -> None:
    """Without the raylet the node is gone; when it is back, the trial goes on there."""
    walk = joined.walk("walk", *FAR, "hydra.sweeper.n_trials=1", steps=40, seconds=0.1)
    driver, trial = joined.start(*walk), joined.trial("walk")
    wait_for(lambda: len(steps_of(trial)) > 3, driver)
    kill(cluster.far_processes("raylet/raylet"))
    joined.read_until(driver, "is lost: ")
    wait_for(lambda: not cluster.far_processes("ray::Actor"), driver)
    before = len(steps_of(trial))
    cluster.start_far()
    output, _ = driver.communicate()
    assert driver.returncode == 0, output
    assert_whole(trial, 40)
    assert before < 40, "the trial was over before its raylet was"
    assert attempt_of(trial) > 1


def test_a_node_that_differs_is_named(joined: Project, cluster: Cluster, tmp_path: Path) -> None:
    walk = joined.walk("walk", *FAR, "hydra.sweeper.n_trials=1")
    (other := tmp_path / "other").mkdir()
    (other / "walk.py").write_text("def train(run, cfg): return 1\n")
    metadata = Path(str(distribution("numpy").locate_file(""))) / (
        f"numpy-{distribution('numpy').version}.dist-info/METADATA"
    )
    changed = re.sub(r"\nVersion: .*\n", "\nVersion: 0.9\n", metadata.read_text(), count=1)
    (tmp_path / "METADATA").write_text(changed)
    with cluster.mounted(other, joined.path), cluster.mounted(tmp_path / "METADATA", metadata):
        told = joined.run(*walk, code=1)
    assert "differs from this machine" in told
    assert "numpy 0.9 instead of" in told
    assert f"other code in {joined.path}" in told
    with cluster.mounted(other, tmp_path):
        told = joined.run(*walk, code=1)
    assert f"has no folder {joined.path}" in told
    with cluster.mounted(other, Path(dlsweep.__file__).parent):
        told = joined.run(*walk, code=1)
    assert f"The node {cluster.far} cannot run dlsweep: ModuleNotFoundError" in told
    assert "Traceback" not in told
    assert not list(joined.path.glob("outputs/walk/trials/*"))


def test_a_wrong_token_is_named(joined: Project) -> None:
    told = joined.run(*joined.walk("walk", *RAY), code=1, RAY_AUTH_TOKEN=secrets.token_hex(32))
    assert "This cluster expects a token" in told
    assert "gcs_client" not in told


def test_what_no_node_has_is_an_error(joined: Project) -> None:
    told = joined.run(*joined.walk("walk", *RAY, "launcher.gpus_per_trial=2"), code=1)
    assert "No node of the cluster has what one trial needs (CPU: 1, GPU: 2)" in told
    assert "CPU: 2, far: 2" in told
    assert len(told.splitlines()) == 4


def test_a_config_that_cannot_work_is_named_before_a_trial_starts(joined: Project) -> None:
    told = joined.run(
        *joined.walk("walk", *NEAR, "hydra.sweeper.n_trials=1", "training._target_=walk.nothing"),
        code=1,
    )
    assert "walk.nothing" in told
    assert "Traceback" not in told


def test_an_error_in_preload_is_named(joined: Project) -> None:
    (joined.path / "bad.py").write_text("raise ValueError('not today')")
    told = joined.run(
        *joined.walk("walk", *NEAR, "hydra.sweeper.n_trials=1", "launcher.preload=[bad]"), code=1
    )
    assert "launcher.preload: 'bad' cannot be imported" in told
    assert "ValueError: not today" in told
    assert "ray" not in told.partition("cannot be imported")[2].replace("launcher", "")


def test_a_single_run_has_its_environment(joined: Project) -> None:
    (joined.path / "says.py").write_text(SAYS)
    own = [*OWN, "training._target_=says.train", "hydra.run.dir=outputs/one"]
    joined.run(*own, *NEAR, "+hydra.job.env_set.MINE=yes")
    log = (joined.path / "outputs" / "one" / "log.txt").read_text()
    assert "it has MINE=yes CUDA_VISIBLE_DEVICES= OMP_NUM_THREADS=1" in log


def test_a_hydra_app_of_ones_own_runs_on_ray(joined: Project) -> None:
    (joined.path / "app.py").write_text(APP)
    launcher = "{_target_:dlsweep.launchers.ray.RayLauncher,slots:1,resources:{far:1}}"
    joined.command = ["app.py"]
    told = joined.run(
        "-m",
        "hydra/sweeper=dlsweep",
        f"+hydra.sweeper.launcher={launcher}",
        "+x=1,2",
        "hydra.sweep.dir=outputs/app",
    )
    assert list(joined.table("app")["state"]) == ["completed", "completed"], told


def test_the_commands_of_the_page_about_clusters(joined: Project, cluster: Cluster) -> None:
    page = (Path(dlsweep.__file__).parents[1] / "docs" / "cluster.md").read_text()
    commands = re.findall(r"^python -m dlsweep (.*launcher=ray.*)$", page, re.MULTILINE)
    assert len(commands) == 2
    for command in commands:  # the second one goes on with the study of the first
        joined.run(*command.replace("10.0.0.1:6379", cluster.address).split())
    assert len(joined.table("quadratic")) == 20


def test_ctrl_c_ends_a_sweep_that_waits_for_a_busy_cluster(
    joined: Project, cluster: Cluster
) -> None:
    first = joined.start(
        *joined.walk(
            "first", *RAY, "+launcher.resources.far=2", "hydra.sweeper.n_trials=1", steps=10_000
        )
    )
    trial = joined.trial("first")
    wait_for(lambda: steps_of(trial), first)
    second = joined.start(*joined.walk("second", *FAR, "hydra.sweeper.n_trials=1"))
    wait_for(lambda: list((joined.path / "outputs").glob("second/check/configs.json")), second)
    second.send_signal(signal.SIGINT)
    told, _ = second.communicate()
    assert second.returncode == 0, told
    assert "1 trials are missing" in told
    first.send_signal(signal.SIGINT)
    joined.read_until(first, "once more to kill them")
    first.send_signal(signal.SIGINT)
    told, _ = first.communicate()
    assert "interrupted" in told or "killed" in told
    assert not cluster.far_processes("ray::Actor")
