"""One run trained by two processes: as one would, and they begin, write, stop and end as one."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest
import torch
from omegaconf import OmegaConf

from dlsweep.errors import ConfigError, DeviceError
from dlsweep.folders.rundir import RunDir
from dlsweep.machine.devices import THREADS_VARIABLE, gpu_names, replica_count
from dlsweep.run.channel import RUN_VARIABLE
from dlsweep.torch.batches import prepare
from dlsweep.torch.loader import Part
from dlsweep.torch.shares import shares
from dlsweep.torch.trainer import TorchTrainer

if TYPE_CHECKING:
    from conftest import Trial

pytestmark = pytest.mark.slow
MakeTrial = Callable[..., "Trial"]
CONF = Path(__file__).parents[2] / "conf"
FRAMEWORK = OmegaConf.to_container(OmegaConf.load(CONF / "framework" / "torch.yaml"))
EPOCHS = 3


@pytest.fixture
def trial(trial: MakeTrial) -> MakeTrial:
    """Makes a run with everything that must hold, at once."""

    def make(name: str = "0000", **options: object) -> Trial:
        data = options.pop("data", "three_classes.arrays")
        net = {"_target_": "torch_parts.Net", "dropout": options.pop("dropout", 0.0)}
        model = options.pop("model", net)
        options = {"accumulate": 2, "clip_norm": 1.0, "ema_decay": 0.9, **options}
        return trial(name, data=data, model=model, **options)

    return make


def at(batch: int, what: str, **options: object) -> dict:
    return {"_target_": "torch_parts.At", "batch": batch, "what": what, **options}


def in_group(leader: int | None) -> list[psutil.Process]:
    """The processes of a group that have not ended."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getpgid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def state(trial: Trial) -> dict:
    found = max(trial.folder.checkpoints.glob("step-*"))
    parts = [torch.load(found / name, weights_only=True) for name in ("state.pt", "resume.pt")]
    return {**parts[0], **parts[1]}


def assert_same_weights(one: Trial, other: Trial) -> None:
    for name, value in state(one)["model"].items():
        torch.testing.assert_close(state(other)["model"][name], value, rtol=1e-4, atol=1e-5)


# As one process would


@pytest.fixture
def alone(trial: MakeTrial) -> Trial:
    return trial("0000", replicas=1).run()


@pytest.mark.parametrize(
    ("data", "strategy"),
    [
        ("three_classes.arrays", "data_parallel"),
        ("torch_parts.datasets", "data_parallel"),
        ("three_classes.arrays", "fsdp"),
    ],
)
def test_two_processes_train_as_one(trial: MakeTrial, alone: Trial, data: str, strategy: str):
    both = trial("0001", data=data, strategy=strategy, replicas=2).run()
    alone.assert_same_curve(both)
    assert_same_weights(alone, both)
    assert state(both)["optimizer"]["state"].keys() == state(alone)["optimizer"]["state"].keys()
    assert len(state(both)["random_of_others"]) == 1


@pytest.mark.parametrize("strategy", ["data_parallel", "fsdp"])
def test_two_processes_measure_r2_of_all_and_keep_groups(trial: MakeTrial, strategy: str):
    options = {
        "data": "three_classes.prices",
        "loss": "mse",
        "freeze": [r"body\.0\.bias"],
        "param_groups": {"head": {"match": "head.*", "lr": 0.2}},
    }
    one = trial("0000", replicas=1, **options).run()
    both = trial("0001", replicas=2, strategy=strategy, **options).run()
    one.assert_same_curve(both)
    assert_same_weights(one, both)
    assert both.curve[2]["val/r2"] > one.curve[0]["val/r2"]
    assert [group["lr"] for group in state(both)["optimizer"]["param_groups"]] == [0.05, 0.2]


@pytest.mark.parametrize("strategy", ["data_parallel", "fsdp"])
def test_batch_norm_takes_the_statistics_of_whole_batches(trial: MakeTrial, strategy: str):
    cnn = {"_target_": "dlsweep.torch.models.CNN", "input_shape": [1, 8, 8], "classes": 4}
    options = {"model": {**cnn, "channels": [4, 8], "hidden": 8}, "data": "torch_parts.images"}
    one = trial("0000", replicas=1, **options).run()
    both = trial("0001", replicas=2, strategy=strategy, **options).run()
    one.assert_same_curve(both)
    assert_same_weights(one, both)


def test_a_step_of_ones_own_may_call_the_models_parts(trial: MakeTrial):
    step = {"_target_": "torch_parts.Halves", "monitor": "val/loss", "mode": "min"}
    one = trial("0000", replicas=1, **step).run()
    both = trial("0001", replicas=2, **step).run()
    one.assert_same_curve(both)
    assert "train/scale" in both.curve[0]


def test_the_first_process_alone_writes(trial: MakeTrial):
    both = trial(replicas=2, callbacks=[at(0, "stop")]).run()
    assert both.log == "begun by 0\n"
    steps = [record.step for record, _ in both.folder.records() if record.metrics]
    assert steps == [1, 2, 3, 3]
    assert sorted(path.name for path in both.folder.path.iterdir() if path.is_file()) == [
        "data.json",
        "lock",
        "log.txt",
        "records.jsonl",
        "result.json",
        "run.json",
    ]
    tables = [
        record.media["test/predictions"]
        for record, _ in both.folder.records()
        if "test/predictions" in record.media
    ]
    assert len(tables) == 1
    assert len(tables[0]["rows"]) == 17


def test_a_process_counts_an_example_that_it_shares_with_none_only_once():
    data = prepare(
        {"train": (np.arange(5.0), np.arange(5)), "validation": (np.arange(5.0), np.arange(5))},
        batch_size=4,
        seed=0,
        device=torch.device("cpu"),
    )
    parts = [list(shares(data.validation, 1, Part(rank, 2))) for rank in (0, 1)]
    assert [[(one.size, one.whole) for one in part] for part in parts] == [
        [(2, 4), (1, 1)],
        [(2, 4), (0, 1)],
    ]
    assert [part[1].batch[1].tolist() for part in parts] == [[4], [4]]


# Going on


@pytest.mark.parametrize("average", [{"ema_decay": 0.9}, {"ema_decay": None, "swa_start": 1}])
@pytest.mark.parametrize("strategy", ["data_parallel", "fsdp"])
def test_two_processes_go_on_to_the_bit_in_the_middle_of_an_epoch(
    trial: MakeTrial, strategy: str, average: dict
):
    options = {
        "replicas": 2,
        "strategy": strategy,
        "dropout": 0.5,
        "checkpoint_steps": 1,
        **average,
    }
    whole = trial("0000", callbacks=[at(0, "stop")], **options).run()
    parts = trial("0001", callbacks=[at(12, "stop")], **options).run()
    assert parts.result["status"] == "preempted", parts.log
    parts.folder.clear()
    parts.run()
    assert parts.result["status"] == "completed", parts.log
    assert parts.curve == whole.curve
    for part in ("model", "trained"):
        for name, value in state(whole)[part].items():
            assert torch.equal(state(parts)[part][name], value), (part, name)


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1)])
@pytest.mark.parametrize("strategy", ["data_parallel", "fsdp"])
def test_another_number_of_processes_goes_on(
    trial: MakeTrial, alone: Trial, before: int, after: int, strategy: str
):
    other = trial("0001", replicas=before, strategy=strategy, callbacks=[at(12, "stop")]).run()
    other.go_on(after)
    alone.assert_same_curve(other)


# Ending


def test_all_stop_when_they_are_asked_to(trial: MakeTrial):
    both = trial(replicas=2, epochs=1000, callbacks=[at(0, "stop", seconds=0.01)]).start()
    both.wait_for_step(1)
    both.folder.request_stop("pruned")
    assert both.wait(20) == 0
    assert both.result["status"] == "pruned"
    assert not in_group(both.job.pid)
    assert list(both.folder.checkpoints.glob("step-*"))


def test_all_are_pruned_at_the_epoch_that_was_judged(trial: MakeTrial):
    both = trial(replicas=2)
    (both.folder.path / "prune").touch()
    assert both.run().result["status"] == "pruned"
    assert [record.step for record, _ in both.folder.records()] == [1]


def test_a_signal_to_the_trial_reaches_them(trial: MakeTrial):
    both = trial(replicas=2, epochs=1000, callbacks=[at(0, "stop", seconds=0.01)]).start()
    both.wait_for_step(1)
    os.kill(both.job.pid, signal.SIGTERM)
    both.wait(20)
    assert both.result["status"] == "preempted"


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize(
    ("what", "status", "reason"),
    [("fail", "crashed", "LookupError: of this rank alone"), ("spoil", "diverged", "became nan")],
)
def test_what_ends_one_ends_all(trial: MakeTrial, rank: int, what: str, status: str, reason: str):
    both = trial(replicas=2, epochs=1000, callbacks=[at(30, what, rank=rank)]).start()
    assert both.wait(30) == 1
    assert both.result["status"] == status, both.log
    assert reason in both.result["reason"]
    assert not in_group(both.job.pid)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_trial_dies_as_one_of_its_processes_has(trial: MakeTrial, rank: int):
    both = trial(replicas=2, epochs=1000, callbacks=[at(30, "die", rank=rank)]).start()
    assert both.wait(30) == -signal.SIGKILL
    assert f"Process {rank + 1} of the 2 that train together was killed by SIGKILL" in both.log
    assert not (both.folder.path / "result.json").exists()
    assert not in_group(both.job.pid)


def test_a_killed_trial_leaves_no_process(trial: MakeTrial):
    both = trial(replicas=2, epochs=1000, callbacks=[at(0, "stop", seconds=0.01)])
    env = {**os.environ, RUN_VARIABLE: str(both.folder.path), THREADS_VARIABLE: "2"}
    command = [sys.executable, "-m", "dlsweep"]  # which no launcher sees to
    process = subprocess.Popen(command, env=env, start_new_session=True)
    both.wait_for_step(1)
    assert len(in_group(process.pid)) == 3
    process.kill()
    process.wait()
    until = time.monotonic() + 10
    while in_group(process.pid):
        assert time.monotonic() < until
        time.sleep(0.02)


# Bad input


def test_a_stream_is_not_shared(trial: MakeTrial):
    both = trial(replicas=2, data="torch_parts.streams").run()
    assert both.result["status"] == "crashed"
    assert "Expected a Dataset with a length" in both.result["reason"]


def test_a_replica_needs_an_example_of_each_batch():
    with pytest.raises(ConfigError, match="Received 3, and a batch of 2 examples"):
        TorchTrainer(torch.optim.SGD, replicas=3, batch_size=2).preflight()


def test_a_debuggers_process_trains_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(THREADS_VARIABLE, raising=False)
    with pytest.raises(ConfigError, match="launcher=local"):
        TorchTrainer(torch.optim.SGD, replicas=2).preflight()
    TorchTrainer(torch.optim.SGD).preflight()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"replicas": 0}, "training.replicas: Received 0"),
        ({"strategy": "horovod"}, "Expected one of data_parallel, fsdp"),
        ({"strategy": "fsdp", "precision": "fp16"}, "training.precision=bf16"),
    ],
)
def test_what_cannot_work_is_said(options: dict, said: str):
    with pytest.raises(ConfigError, match=said):
        TorchTrainer(torch.optim.SGD, **options)


def test_replicas_are_the_gpus_that_a_trial_is_given(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    monkeypatch.delenv(THREADS_VARIABLE, raising=False)
    assert replica_count("auto", on_gpus=True) == 1
    monkeypatch.setenv(THREADS_VARIABLE, "2")
    assert replica_count("auto", on_gpus=True) == 2
    assert replica_count("auto", on_gpus=False) == 1
    assert replica_count(4, on_gpus=False) == 4
    with pytest.raises(DeviceError, match=r"launcher\.gpus_per_trial=4"):
        replica_count(4, on_gpus=True)


# On GPUs


@pytest.mark.gpu
@pytest.mark.skipif(len(gpu_names()) < 2, reason="needs two GPUs")
@pytest.mark.parametrize(
    "options",
    [
        ["framework=torch"],
        ["framework=torch", "training.strategy=fsdp"],
        ["framework=torch", "model=cnn", "training.precision=bf16"],
        ["framework=keras"],
    ],
)
def test_two_gpus_train_as_one(tmp_path: Path, options: list[str]):
    curves = []
    for gpus in (1, 2):
        folder = RunDir(tmp_path / str(gpus))
        fixed = ["tracking=none", "training.epochs=2", f"launcher.gpus_per_trial={gpus}"]
        command = [sys.executable, "-m", "dlsweep", *fixed, *options]
        run = subprocess.run([*command, f"hydra.run.dir={folder.path}"], capture_output=True)
        assert run.returncode == 0, run.stdout + run.stderr
        curves.append([record.metrics for record, _ in folder.records() if record.metrics])
    for one, both in zip(*curves, strict=True):
        assert both == pytest.approx(one, rel=0.05)
