"""One run trained by two processes: as one would, and they begin, write, stop and end as one."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from omegaconf import OmegaConf

from dlsweep.channel import RUN_VARIABLE
from dlsweep.data.torch import prepare
from dlsweep.data.torch_loader import Part
from dlsweep.data.torch_shares import shares
from dlsweep.devices import THREADS_VARIABLE, replica_count
from dlsweep.errors import ConfigError, DeviceError
from dlsweep.launchers.local import LocalJob, LocalLauncher
from dlsweep.rundir import RunDir
from dlsweep.trainers.torch import TorchTrainer

pytestmark = pytest.mark.slow
CONF = Path(__file__).parents[2] / "conf"
EPOCHS = 3
#: Everything that must hold, at once. The last of eight batches has one example.
ALL = {"batch_size": 13, "accumulate": 2, "clip_norm": 1.0, "ema_decay": 0.9, "epochs": EPOCHS}
MINE = """
import os
import time

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset, IterableDataset

from dlsweep.trainers.callbacks import Callback
from dlsweep.trainers.torch import TorchTrainer


def points(count, seed):
    random = np.random.default_rng(seed)
    targets = np.arange(count) % 3
    inputs = np.array([[0, 2], [2, 0], [-2, -2]])[targets] + random.normal(size=(count, 2))
    return inputs.astype(np.float32), targets


def arrays():
    return {"train": points(92, 0), "validation": points(31, 1), "test": points(17, 2)}


class Points(Dataset):
    def __init__(self, count, seed):
        self.inputs, self.targets = points(count, seed)

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, row):
        return torch.from_numpy(self.inputs[row]), int(self.targets[row])


def datasets():
    return {"train": Points(92, 0), "validation": Points(31, 1), "test": Points(17, 2)}


class Stream(IterableDataset):
    def __iter__(self):
        return iter([(torch.ones(2), 0)] * 26)


def streams():
    return {"train": Stream(), "validation": Stream()}


class Net(nn.Module):
    def __init__(self, dropout=0.0):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Dropout(dropout))
        self.head = nn.Linear(16, 3)

    def forward(self, inputs):
        return self.head(self.body(inputs))


class Halves(TorchTrainer):
    # A step that calls the model's parts, not the model.
    def training_step(self, model, batch):
        inputs, targets = batch
        outputs = model.head(model.body(inputs))
        return {"loss": self.criterion(outputs, targets), "scale": outputs.abs().mean()}


class At(Callback):
    # What happens behind a batch, in one process or in all.
    def __init__(self, batch, what, rank=None, seconds=0.0):
        self.batch, self.what, self.rank, self.seconds = batch, what, rank, seconds

    def on_train_batch_end(self, batch):
        time.sleep(self.seconds)
        if batch == self.batch and self.rank in (None, self.run.ranks.rank):
            getattr(self, self.what)()

    def on_train_begin(self):
        print("begun by", self.run.ranks.rank)

    def stop(self):
        self.run.stop("preempted")

    def fail(self):
        raise LookupError("of this rank alone")

    def spoil(self):
        with torch.no_grad():
            next(self.model.parameters()).fill_(torch.nan)

    def die(self):
        os.kill(os.getpid(), 9)
"""


class Trial:
    """A run, trained in a process of its own as the launcher starts it."""

    def __init__(self, folder: RunDir, launcher: LocalLauncher) -> None:
        self.folder = folder
        self.job: LocalJob
        self._launcher = launcher

    def start(self) -> Trial:
        self.job = self._launcher.submit(["-m", "dlsweep"], self.folder)
        return self

    def run(self) -> Trial:
        self.start().wait(60)
        return self

    def wait(self, seconds: float) -> int | None:
        """Until it has ended; returns its exit code."""
        until = time.monotonic() + seconds
        while self.job.poll() is None:
            if time.monotonic() > until:
                self.job.kill()
            self._launcher.wait(0.05)
        return self.job.poll()

    @property
    def log(self) -> str:
        return self.folder.log_file.read_text()

    @property
    def result(self) -> dict:
        return json.loads((self.folder.path / "result.json").read_text())

    @property
    def curve(self) -> list[dict[str, float]]:
        return [record.metrics for record, _ in self.folder.records() if record.metrics]

    @property
    def state(self) -> dict:
        path = max(self.folder.checkpoints.glob("step-*")) / "state.pt"
        return torch.load(path, weights_only=True)

    def wait_for_step(self, step: int) -> None:
        until = time.monotonic() + 60
        while not any(record.step >= step for record, _ in self.folder.records()):
            assert time.monotonic() < until, self.log
            self._launcher.wait(0.02)

    def processes(self) -> list[psutil.Process]:
        return in_group(self.job.pid)


def in_group(leader: int | None) -> list[psutil.Process]:
    """The processes of a group that have not ended."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getpgid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


@pytest.fixture(scope="module")
def launcher():
    """Forks trials, each with both cores of this machine as a slot has them."""
    preload = OmegaConf.load(CONF / "framework" / "torch.yaml").preload
    launcher = LocalLauncher(cpus_per_trial=2, gpus_per_trial=0, preload=list(preload))
    launcher.start(lambda _: None)
    yield launcher
    launcher.close()


@pytest.fixture
def trial(
    make_run: Callable[..., RunDir],
    tmp_path: Path,
    launcher: LocalLauncher,
    monkeypatch: pytest.MonkeyPatch,
):
    """Makes a run, and a project that its config names."""
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)

    def make(name: str = "0000", data: str = "arrays", dropout: float = 0.0, **training) -> Trial:
        loop = OmegaConf.load(CONF / "training" / "default.yaml")
        del loop["defaults"]
        loop.optimizer = OmegaConf.load(CONF / "training" / "optimizer" / "adam.yaml")
        loop.optimizer.lr = 0.05
        loop.merge_with({**ALL, **training})
        config = {
            "seed": 0,
            "framework": OmegaConf.load(CONF / "framework" / "torch.yaml"),
            "data": {"_target_": f"mine.{data}"},
            "model": {"_target_": "mine.Net", "dropout": dropout},
            "training": loop,
            "system_metrics": None,
        }
        return Trial(make_run(config, name=name), launcher)

    return make


MakeTrial = Callable[..., Trial]


def at(batch: int, what: str, **options: object) -> dict:
    return {"_target_": "mine.At", "batch": batch, "what": what, **options}


def assert_same_curve(one: Trial, other: Trial) -> None:
    assert [list(metrics) for metrics in one.curve] == [list(metrics) for metrics in other.curve]
    assert len(one.curve) == EPOCHS + 1, one.log + other.log
    for mine, yours in zip(one.curve, other.curve, strict=True):
        assert mine == pytest.approx(yours, rel=1e-4, abs=1e-6)


def assert_same_weights(one: Trial, other: Trial) -> None:
    for name, value in one.state["model"].items():
        torch.testing.assert_close(other.state["model"][name], value, rtol=1e-4, atol=1e-5)


# As one process would


@pytest.fixture
def alone(trial: MakeTrial) -> Trial:
    return trial("0000", replicas=1).run()


@pytest.mark.parametrize(
    ("data", "strategy"),
    [("arrays", "data_parallel"), ("datasets", "data_parallel"), ("arrays", "fsdp")],
)
def test_two_processes_train_as_one(trial: MakeTrial, alone: Trial, data: str, strategy: str):
    both = trial("0001", data=data, strategy=strategy, replicas=2).run()
    assert_same_curve(alone, both)
    assert_same_weights(alone, both)
    assert both.state["optimizer"]["state"].keys() == alone.state["optimizer"]["state"].keys()
    assert len(both.state["random_of_others"]) == 1


def test_a_step_of_ones_own_may_call_the_models_parts(trial: MakeTrial):
    step = {"_target_": "mine.Halves", "monitor": "val/loss", "mode": "min"}
    one = trial("0000", replicas=1, **step).run()
    both = trial("0001", replicas=2, **step).run()
    assert_same_curve(one, both)
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


@pytest.mark.parametrize("strategy", ["data_parallel", "fsdp"])
def test_two_processes_go_on_to_the_bit_in_the_middle_of_an_epoch(trial: MakeTrial, strategy: str):
    options = {"replicas": 2, "strategy": strategy, "dropout": 0.5, "checkpoint_steps": 1}
    whole = trial("0000", callbacks=[at(0, "stop")], **options).run()
    parts = trial("0001", callbacks=[at(12, "stop")], **options).run()
    assert parts.result["status"] == "preempted", parts.log
    parts.folder.clear()
    parts.run()
    assert parts.result["status"] == "completed", parts.log
    assert parts.curve == whole.curve
    for part in ("model", "trained"):
        for name, value in whole.state[part].items():
            assert torch.equal(parts.state[part][name], value), (part, name)


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1)])
@pytest.mark.parametrize("strategy", ["data_parallel", "fsdp"])
def test_another_number_of_processes_goes_on(
    trial: MakeTrial, alone: Trial, before: int, after: int, strategy: str
):
    other = trial("0001", replicas=before, strategy=strategy, callbacks=[at(12, "stop")]).run()
    assert other.result["status"] == "preempted", other.log
    config = OmegaConf.load(other.folder.config_file)
    config.training.replicas = after
    OmegaConf.save(config, other.folder.config_file)
    other.folder.clear()
    other.run()
    assert_same_curve(alone, other)


# Ending


def test_all_stop_when_they_are_asked_to(trial: MakeTrial):
    both = trial(replicas=2, epochs=1000, callbacks=[at(0, "stop", seconds=0.01)]).start()
    both.wait_for_step(1)
    both.folder.request_stop("pruned")
    assert both.wait(20) == 0
    assert both.result["status"] == "pruned"
    assert not both.processes()
    assert list(both.folder.checkpoints.glob("step-*"))


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
    assert not both.processes()


@pytest.mark.parametrize("rank", [0, 1])
def test_a_trial_dies_as_one_of_its_processes_has(trial: MakeTrial, rank: int):
    both = trial(replicas=2, epochs=1000, callbacks=[at(30, "die", rank=rank)]).start()
    assert both.wait(30) == -signal.SIGKILL
    assert f"Process {rank + 1} of the 2 that train together was killed by SIGKILL" in both.log
    assert not (both.folder.path / "result.json").exists()
    assert not both.processes()


def test_a_killed_trial_leaves_no_process(trial: MakeTrial):
    both = trial(replicas=2, epochs=1000, callbacks=[at(0, "stop", seconds=0.01)])
    env = {**os.environ, RUN_VARIABLE: str(both.folder.path), THREADS_VARIABLE: "2"}
    command = [sys.executable, "-m", "dlsweep"]  # which no launcher sees to
    process = subprocess.Popen(command, env=env, process_group=0)
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
    both = trial(replicas=2, data="streams").run()
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
