"""Sweeps on a local Ray cluster, which starts and ends with them."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import psutil
import pytest
import wide
from ray_nodes import OWN, Project, below, kill, steps_of, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

RAY = ("launcher=ray", "launcher.slots=1")


def test_a_sweep_has_the_table_of_a_local_one(project: Project) -> None:
    """One seed, one slot: the sampler and the pruner see the same."""
    asked = ["hydra.sweeper.n_trials=6", "hydra/sweeper/pruner=median", "hydra.sweeper.seed=3"]
    project.run(*project.walk("here", *asked, "hydra.sweeper.n_jobs=1", steps=9))
    told = project.run(*project.walk("ray", *asked, *RAY, steps=9))
    table = project.table("ray")
    assert table.equals(project.table("here"))
    assert len(table) == 6
    assert "raylet" not in told
    assert "ray::" not in told


def test_nothing_is_left_of_a_killed_driver(project: Project) -> None:
    driver = project.start(*project.walk("walk", *RAY, "hydra.sweeper.n_trials=1", steps=10_000))
    wait_for(lambda: steps_of(project.trial("walk")), driver)
    processes = [psutil.Process(pid) for pid in below(driver.pid)]
    assert any("raylet" in process.name() for process in processes)
    # Ray's own agents look for their raylet now and then, and end within a minute or two.
    others = [process for process in processes if "Agent" not in process.name()]
    kill([driver.pid])
    driver.communicate()
    assert not psutil.wait_procs(others, timeout=60)[1]
    steps = len(steps_of(project.trial("walk")))
    resumed = project.walk("walk", *RAY, "hydra.sweeper.n_trials=1", steps=10_000)
    driver = project.start(*resumed)
    wait_for(lambda: len(steps_of(project.trial("walk"))) > steps, driver)
    driver.send_signal(signal.SIGINT)
    told, _ = driver.communicate()
    assert driver.returncode == 0, told
    assert "0000 interrupted" in told
    found = steps_of(project.trial("walk"))
    assert found == list(range(1, len(found) + 1))


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("127.0.0.1:1", "where no Ray cluster answers: [Errno 111] Connection refused"),
        ("ray://127.0.0.1:10001", "Addresses of Ray Client do not work here"),
        ("nowhere", "Expected an address such as 10.0.0.1:6379"),
        ("127.0.0.1:99999", "where no Ray cluster answers"),
    ],
)
def test_an_address_that_cannot_work_is_named(project: Project, address: str, said: str) -> None:
    walk = project.walk("walk", *RAY, "hydra.sweeper.n_trials=1", f"launcher.address='{address}'")
    told = project.run(*walk, code=1)
    assert said in told
    assert len(told.splitlines()) <= 2
    assert not (project.path / "outputs").exists()


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("launcher.cpus_per_trial=0", "launcher.cpus_per_trial: Received 0."),
        ("launcher.gpus_per_trial=1.5", "launcher.gpus_per_trial: Received 1.5."),
        ("launcher.slots=0", "launcher.slots: Received 0."),
        ("launcher.start=cold", "launcher.start: Received 'cold'."),
        ("launcher.patience=0", "launcher.patience: Received 0."),
        ("launcher.preload=[nomodule]", "launcher.preload needs the package 'nomodule'"),
        ("+launcher.resources.far=0", "launcher.resources.far: Received 0."),
    ],
)
def test_an_option_that_cannot_work_is_named(project: Project, option: str, said: str) -> None:
    walk = project.walk("walk", *RAY, "hydra.sweeper.n_trials=1")
    walk = [text for text in walk if text.partition("=")[0] != option.partition("=")[0]]
    assert said in project.run(*walk, option, code=1)


def test_something_else_that_listens_is_no_cluster(project: Project) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        walk = project.walk(
            "walk", *RAY, "hydra.sweeper.n_trials=1", f"launcher.address='{address}'"
        )
        told = project.run(*walk, code=1, RAY_gcs_rpc_server_reconnect_timeout_s="1")
    assert f"Received '{address}'" in told
    assert len(told.splitlines()) <= 2


def test_without_ray_the_extra_is_named(project: Project) -> None:
    (project.path / "ray.py").write_text("raise ModuleNotFoundError('No module named ray')")
    told = project.run(*project.walk("walk", *RAY, "hydra.sweeper.n_trials=1"), code=1)
    assert "launcher=ray needs the package 'ray', which is not installed" in told
    assert "pip install 'dlsweep[ray]'" in told


@pytest.mark.parametrize("outputs", ["s3://bucket/results", "gs://bucket", "file:///tmp/x"])
@pytest.mark.parametrize("is_sweep", [True, False])
def test_an_address_of_files_is_refused(project: Project, outputs: str, is_sweep: bool) -> None:
    asked = project.walk("walk", "hydra.sweeper.n_trials=1", f"outputs={outputs}")
    if not is_sweep:
        asked = [*OWN, "training._target_=walk.train", f"outputs={outputs}"]
    told = project.run(*asked, code=1)
    assert f"outputs: Received {outputs}" in told
    assert [path.name for path in project.path.iterdir()] == ["walk.py"]


def test_points_that_would_not_fit_into_memory_are_rejected(project: Project) -> None:
    (project.path / "wide.py").write_text(Path(wide.__file__).read_text())
    project.run(*OWN, *wide.SWEEP, "+training.x=interval(-5,5)", *RAY)
    wide.check(project.trial("wide").parents[1], project.table("wide"))
