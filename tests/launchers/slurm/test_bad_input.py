"""What cannot work on a Slurm cluster ends with a sentence, before a trial starts."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest

from dlsweep.errors import ConfigError, DeviceError, StudyError
from dlsweep.launchers.slurm import SlurmLauncher

pytestmark = pytest.mark.slow
SWEEP = ("launcher=slurm", "training.x=range(2)", "-m")


def begin(folder: Path, **options: Any) -> None:
    """Starts a launcher, and waits until it has a slot."""
    launcher = SlurmLauncher(**options)
    launcher.start(lambda _: None, folder)
    with contextlib.closing(launcher):
        while not launcher.free_slots:
            launcher.wait(1)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"gpus_per_trial": 9}, "Requested node configuration is not available"),
        ({"gpus_per_trial": 9}, "\n  gpu: 2 nodes with 2 CPUs, 4000 MB, gpu:2; "),
        ({"cpus_per_trial": 7}, "would wait for ever: PartitionConfig.\nThe partitions of"),
        ({"time": 9000}, "would wait for ever: PartitionTimeLimit."),
        ({"constraint": "fast"}, "Invalid feature specification"),
        ({"sbatch": {"nonsense": 3}}, "unrecognized option '--nonsense=3'"),
        ({"setup": ["echo no module >&2", "exit 3"]}, "has ended: FAILED.+\n  no module"),
    ],
)
def test_what_the_cluster_does_not_have(
    slurm, tmp_path, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(DeviceError, match=f"(?s){says}"):
        begin(tmp_path, **options)
    slurm.wait_until(lambda: not slurm.jobs())
    assert not (tmp_path / "workers").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"slots": 0}, "launcher.slots: Received 0. Expected a whole number"),
        ({"trials_per_job": 0}, "launcher.trials_per_job: Received 0."),
        ({"time": 3}, "launcher.time: Received 3 minutes .+ a minute early"),
        ({"sbatch": {"output": "x"}}, "launcher.sbatch: Received 'output'"),
        ({"sbatch": {"job_name": "x"}}, "launcher.sbatch: Received 'job-name'"),
        ({"gpus_per_trial": 0.5}, "launcher.gpus_per_trial: Received 0.5.+ not share a GPU"),
        ({"gres": "gpu:2"}, "launcher.gres: Received 'gpu:2'"),
    ],
)
def test_what_no_cluster_has(slurm, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        SlurmLauncher(**options)


def test_a_partition_that_does_not_exist(project, slurm) -> None:
    output = project.run(*SWEEP, "launcher.partition=nope", code=1)
    assert "sbatch has refused the job of a slot: invalid partition specified: nope" in output
    assert output.count("invalid partition") == 1
    assert not list(project.path.glob("outputs/*/trials/*"))


def test_a_machine_without_slurm(slurm, monkeypatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigError, match=r"launcher=slurm: This machine has no command sbatch\."):
        SlurmLauncher()


def test_a_cluster_that_is_down(slurm, monkeypatch, tmp_path: Path) -> None:
    config = tmp_path / "slurm.conf"
    text = slurm.config.read_text().replace("SlurmctldPort=", "MessageTimeout=1\nSlurmctldPort=1#")
    config.write_text(text)
    monkeypatch.setenv("SLURM_CONF", str(config))
    with pytest.raises(ConfigError, match="launcher=slurm: The Slurm cluster does not answer: "):
        SlurmLauncher()


def test_a_link_in_a_received_study_folder(slurm, tmp_path: Path) -> None:
    precious = tmp_path / "elsewhere" / "precious"
    precious.mkdir(parents=True)
    (tmp_path / "workers").symlink_to(precious.parent)
    with pytest.raises(StudyError, match="workers"):
        begin(tmp_path)
    assert precious.exists()


def test_a_node_with_another_version_is_named(project) -> None:
    other = project.path / "other" / "omegaconf-1.0.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: omegaconf\nVersion: 1.0\n")
    setup = f"launcher.setup=['export PYTHONPATH={other.parent}']"
    output = project.run(*SWEEP, setup, code=1)
    assert "differs from this machine: it has omegaconf 1.0 instead of 2." in output


def test_a_folder_that_a_node_does_not_see_is_named(project, slurm, tmp_path: Path) -> None:
    hidden = tmp_path / "here"
    hidden.mkdir()
    mount = f'mount -t tmpfs none {hidden} && exec "$@"'
    slurm.end_node(2)
    try:
        slurm.start_node(2, "unshare", "-m", "sh", "-c", mount, "sh")
        place = (f"outputs={hidden}", "+launcher.sbatch.nodelist=n2")
        output = project.run(*SWEEP, *place, code=1)
    finally:
        slurm.end_node(2)
        slurm.start_node(2)
    assert f"its node does not see the study folder {hidden}/quadratic." in output
    assert "Expected a folder on a file system that all nodes share." in output
