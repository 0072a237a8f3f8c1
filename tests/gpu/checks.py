"""What must be seen on a GPU: one function each, run in a process of its own by ``run.py``.

A check returns a sentence with what it has measured; an assertion that fails says what did not
hold. With ``on_gpu=False`` the same code runs on a CPU, as far as it goes.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
#: The files of a checkpoint of PyTorch's.
PARTS = ("state", "resume")
ROOT = HERE.parents[1]
_FUNCTION = (
    "model=none",
    "data=none",
    "training=function",
    "tracking=none",
    "system_metrics=null",
)


class NotHereError(Exception):
    """The check cannot be made on this machine; the text says why."""


def dlsweep(folder: Path, *arguments: str, fails: bool = False) -> str:
    """Runs ``python -m dlsweep`` with its results in a folder; returns what it printed."""
    command = [sys.executable, "-m", "dlsweep", *arguments, f"outputs={folder}"]
    done = subprocess.run(
        command, cwd=HERE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert fails or done.returncode == 0, f"{' '.join(command[2:])} failed:\n{done.stdout[-3000:]}"
    return done.stdout


def attrs(study: Path) -> list[dict[str, Any]]:
    files = sorted(study.glob("trials/*/user_attrs.json"))
    return [json.loads(file.read_text()) for file in files]


def overlap(trials: list[dict[str, Any]]) -> int:
    """Returns the most trials that ran at one time."""
    moments = [trial["began"] for trial in trials]
    return max(sum(t["began"] <= now < t["ended"] for t in trials) for now in moments)


def slots(folder: Path, on_gpu: bool) -> str:
    """Slots and CUDA_VISIBLE_DEVICES, by whole GPUs and fractions of one."""
    found = {}
    for share in ("1", "0.5"):
        asked = [f"launcher.gpus_per_trial={share}"] if on_gpu else []
        dlsweep(
            folder,
            *_FUNCTION,
            "training._target_=gpu_trainings.look",
            "+training.seconds=2",
            "seed=1,2,3,4",
            f"hydra.sweeper.study_name=share{share}",
            *asked,
            "-m",
        )
        trials = attrs(folder / f"share{share}")
        assert len(trials) == 4, f"{len(trials)} of 4 trials noted what they see"
        assert all(trial["sum"] == 256**3 for trial in trials), "a product is wrong"
        found[share] = trials
        if on_gpu:
            wrong = [trial["gpus"] for trial in trials if trial["gpus"] != 1]
            assert not wrong, f"a trial with {share} of a GPU sees {wrong[0]} GPUs"
            assert all(trial["visible"] for trial in trials), "CUDA_VISIBLE_DEVICES is empty"
        else:
            assert not any(trial["visible"] for trial in trials), "a CPU trial sees a GPU"
    most = {share: overlap(trials) for share, trials in found.items()}
    if on_gpu:
        gpus = len({trial["visible"] for trial in found["1"]})
        assert most["1"] <= gpus, f"{most['1']} trials at a time on {gpus} whole GPUs"
        assert most["0.5"] > most["1"], f"halves: {most['0.5']} at a time, whole: {most['1']}"
    seen = {trial["visible"] for trials in found.values() for trial in trials}
    return (
        f"CUDA_VISIBLE_DEVICES was {sorted(seen)}; at a time: whole {most['1']}, half {most['0.5']}"
    )


def fork(folder: Path, on_gpu: bool) -> str:
    """Trials are forked from the warm parent before CUDA starts, and compute on the GPU."""
    printed = dlsweep(
        folder,
        *_FUNCTION,
        "training._target_=gpu_trainings.look",
        "+training.seconds=0",
        "seed=range(0,12)",
        "hydra.sweeper.study_name=fork",
        "-m",
    )
    assert "Warm start is off" not in printed, printed[-2000:]
    trials = attrs(folder / "fork")
    assert len(trials) == 12, f"{len(trials)} of 12 trials have ended well"
    assert not any(trial["initialized"] for trial in trials), "CUDA had started before a fork"
    assert all(trial["sum"] == 256**3 for trial in trials), "a product is wrong"
    assert all(bool(trial["gpus"]) == on_gpu for trial in trials), "a trial's device is wrong"
    seconds = statistics.median(trial["ended"] - trial["began"] for trial in trials)
    return f"12 of 12 forked trials computed; the first operation took {seconds:.2f} s (median)"


def precision(folder: Path, on_gpu: bool) -> str:
    """fp32, bf16, and fp16 with loss scaling learn."""
    found = []
    for kind in ("fp32", "bf16", *(["fp16"] if on_gpu else [])):
        dlsweep(
            folder,
            "tracking=none",
            f"training.precision={kind}",
            "training.epochs=2",
            f"hydra.run.dir={folder}/{kind}",
        )
        result = json.loads((folder / kind / "result.json").read_text())
        accuracy = result["metrics"]["val/accuracy"]
        assert accuracy > 0.8, f"{kind}: val/accuracy is {accuracy}"
        peaks = result["peak_memory"]
        assert peaks["host"] > 0, f"its peaks are {peaks}"
        assert bool(peaks.get("gpu")) == on_gpu, f"its peaks are {peaks}"
        found.append(f"{kind} {accuracy:.3f} in {result['train_seconds']:.1f} s")
    return "val/accuracy after two epochs: " + ", ".join(found)


def out_of_memory(folder: Path, on_gpu: bool) -> str:
    """A trial that runs out of memory is named so."""
    arguments = ("training._target_=gpu_trainings.fill", f"hydra.run.dir={folder}/full")
    dlsweep(folder, *_FUNCTION, *arguments, fails=True)
    result = json.loads((folder / "full" / "result.json").read_text())
    assert result["status"] == "out_of_memory", f"its status is {result['status']}: {result}"
    return f"out_of_memory: {result['reason'].splitlines()[0][:120]}"


def resume(folder: Path, on_gpu: bool) -> str:
    """A killed training resumes to the same bits with deterministic=true."""
    import torch

    from dlsweep.folders.lock import Lock

    common = ("tracking=none", "deterministic=true", "model=cnn" if on_gpu else "model=mlp")
    long = ("training.epochs=4", "training.checkpoint_steps=10")
    dlsweep(folder, *common, *long, f"hydra.run.dir={folder}/whole")
    killed = folder / "killed"
    arguments = [*common, *long, f"hydra.run.dir={killed}", f"outputs={folder}"]
    driver = subprocess.Popen(
        [sys.executable, "-m", "dlsweep", *arguments],
        cwd=HERE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while not list(killed.glob("checkpoints/step-*")) and driver.poll() is None:
        time.sleep(0.005)
    training = Lock(killed / "lock")
    if training.is_held_here:
        training.kill_holder()  # before its driver, which would have it save and end
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
    was_over = (killed / "result.json").exists()
    resumed = subprocess.run(
        [sys.executable, "-m", "dlsweep", "resume", str(killed)],
        cwd=HERE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert resumed.returncode == 0, f"it does not resume:\n{resumed.stdout[-3000:]}"
    states = []
    for run in (folder / "whole", killed):
        last = max(run.glob("checkpoints/step-*"))
        files = [torch.load(last / f"{part}.pt", "cpu", weights_only=True) for part in PARTS]
        states.append((last.name, files))
    (name, whole), (other, again) = states
    assert name == other, f"undisturbed it ends at {name}, resumed at {other}"
    assert same(whole[0], again[0]), "the weights differ"
    assert same(whole[1], again[1]), "the state of the optimizer, or of a generator, differs"
    late = " (it had ended before it was killed)" if was_over else ""
    return f"weights and optimizer at {name} are the same bits{late}"


def same(one: Any, other: Any) -> bool:
    """Whether two nested states are equal to the last bit."""
    import torch

    if isinstance(one, torch.Tensor):
        return bool(torch.equal(one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def data(folder: Path, on_gpu: bool) -> str:
    """Arrays lie on the device; batches of a Dataset come through pinned memory."""
    import torch

    from dlsweep.data import Loader, mnist
    from dlsweep.torch.batches import prepare
    from dlsweep.torch.loader import seeded_loader

    device = torch.device("cuda" if on_gpu else "cpu")
    batches = prepare(mnist(), 128, 0, device)
    inputs, targets = next(iter(batches.train.epoch(1)))
    assert inputs.device.type == targets.device.type == device.type, f"they are on {inputs.device}"
    numbers = torch.utils.data.TensorDataset(torch.ones(256, 4), torch.ones(256))
    loader = seeded_loader(numbers, 64, 0, True, Loader(workers=2), pinned=on_gpu)
    batch = next(iter(loader))
    assert batch[0].is_pinned() == on_gpu, f"a batch is pinned: {batch[0].is_pinned()}"
    found = prepare({"train": numbers, "validation": numbers}, 64, 0, device, Loader(workers=2))
    moved = next(iter(found.train.epoch(1)))[0]
    assert moved.device.type == device.type, f"a moved batch is on {moved.device}"
    return f"arrays and batches are on {inputs.device}; a Dataset's batch is pinned: {on_gpu}"


def nvml(folder: Path, on_gpu: bool) -> str:
    """NVML's figures are read, and recorded with a run."""
    from dlsweep.machine.devices import gpu_names
    from dlsweep.machine.nvml import GPUs

    names = gpu_names()
    figures = dict(GPUs(names[:1]).read())
    arguments = ("tracking=none", "system_metrics=0.2", "training.epochs=3")
    dlsweep(folder, *arguments, f"hydra.run.dir={folder}/run")
    lines = (folder / "run" / "system.jsonl").read_text().splitlines()
    recorded = {name for line in lines for name in json.loads(line)["metrics"]}
    assert any(name.startswith("system/cpu") for name in recorded), f"recorded: {recorded}"
    if not on_gpu:
        assert not figures, f"without a GPU there are {figures}"
        return f"no GPU: no figures of one, {len(recorded)} of the machine"
    assert "gpu_0_memory_usage_megabytes" in figures, f"read: {figures}"
    assert any("gpu_0" in name for name in recorded), f"recorded: {sorted(recorded)}"
    shown = ", ".join(
        f"{name.removeprefix('gpu_0_')} {value:.4g}" for name, value in figures.items()
    )
    return f"{shown}; in the run's record: {sorted(n for n in recorded if 'gpu' in n)}"


def throughput(folder: Path, on_gpu: bool) -> str:
    """A trial's training against the same loop by hand."""
    import torch
    from torch import nn

    sys.path.append(str(ROOT / "tests" / "benchmarks"))
    import side_by_side
    from by_hand import tensors

    from dlsweep.data import mnist
    from dlsweep.torch.models import MLP
    from dlsweep.torch.trainer import TorchTrainer, setup

    setup(seed=0, threads=None if on_gpu else 1)
    device, found = torch.device("cuda" if on_gpu else "cpu"), mnist()
    epochs, size, hidden = (20 if on_gpu else 2), 128, [256, 128]

    class Ours(TorchTrainer):
        def build_model(self, run: Any) -> nn.Module:
            return MLP([1, 28, 28], 10, hidden=hidden, dropout=0.2)

        def build_data(self, run: Any) -> object:
            return found

    def ours(place: Path) -> None:
        adam = functools.partial(torch.optim.Adam, lr=1e-3)
        side_by_side.fit(Ours(adam, None, epochs, size), place)

    def by_hand(place: Path) -> None:
        train_x, train_y, val_x, val_y = (one.to(device) for one in tensors(found))
        model = MLP([1, 28, 28], 10, hidden=hidden, dropout=0.2).to(device)
        adam = torch.optim.Adam(model.parameters(), lr=1e-3)
        for epoch in range(epochs):
            model.train()
            order = torch.randperm(len(train_x), generator=torch.Generator().manual_seed(epoch))
            sums = torch.zeros(2, device=device)
            for rows in order.to(device).split(size):
                outputs = model(train_x[rows])
                loss = nn.functional.cross_entropy(outputs, train_y[rows])
                adam.zero_grad()
                loss.backward()
                adam.step()
                sums[0] += loss.detach() * len(rows)
                sums[1] += (outputs.argmax(1) == train_y[rows]).sum()
            model.eval()
            with torch.no_grad():
                hits = sum(
                    (model(x).argmax(1) == y).sum()
                    for x, y in zip(val_x.split(size), val_y.split(size), strict=True)
                )
            assert float(hits) > 0
            assert float(sums[1]) > 0
            torch.save({"model": model.state_dict(), "adam": adam.state_dict()}, place / "s.pt")

    times: dict[Any, list[float]] = {ours: [], by_hand: []}
    rounds = 5 if on_gpu else 1
    for number in range(rounds + 1):
        for way in (ours, by_hand) if number % 2 else (by_hand, ours):
            with tempfile.TemporaryDirectory() as place:
                begun = time.perf_counter()
                way(Path(place))
                times[way].append(time.perf_counter() - begun)
    trained, hand = (statistics.median(times[way][1:]) for way in (ours, by_hand))
    ratio = trained / hand
    assert not on_gpu or ratio < 1.15, f"{trained:.2f} s against {hand:.2f} s by hand: {ratio:.2f}"
    return f"{epochs} epochs: {trained:.2f} s, by hand {hand:.2f} s, ratio {ratio:.2f} (bar 1.15)"


def sharing(folder: Path, on_gpu: bool) -> str:
    """Four trials, two at a time on one GPU, against one at a time."""
    seconds = {}
    for share, jobs in (("1", 1), ("0.5", 2)):
        asked = [f"launcher.gpus_per_trial={share}"] if on_gpu else ["launcher.cpus_per_trial=1"]
        begun = time.perf_counter()
        dlsweep(
            folder,
            "tracking=none",
            f"training.epochs={10 if on_gpu else 1}",
            "seed=1,2,3,4",
            f"hydra.sweeper.n_jobs={jobs}",
            f"hydra.sweeper.study_name=sharing{jobs}",
            *asked,
            "-m",
        )
        seconds[jobs] = time.perf_counter() - begun
    found = f"one at a time {seconds[1]:.1f} s, two at a time {seconds[2]:.1f} s"
    assert not on_gpu or seconds[2] < seconds[1], f"sharing a GPU is slower: {found}"
    return found


def packing(folder: Path, on_gpu: bool) -> str:
    """Real trainings share a GPU as soon as their memory is known, and none runs out of it."""
    from dlsweep.machine.devices import gpu_names

    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpu_names()[:1])
    printed = dlsweep(
        folder,
        *("tracking=none", f"training.epochs={10 if on_gpu else 1}", "system_metrics=1"),
        *("seed=range(0,10)", "hydra.sweeper.n_jobs=2", "hydra.sweeper.study_name=packing", "-m"),
    )
    files = sorted((folder / "packing").glob("trials/*/result.json"))
    results = [json.loads(file.read_text()) for file in files]
    ends = {result["status"] for result in results}
    assert ends == {"completed"}, f"they ended as {ends}:\n{printed[-2000:]}"
    times = [{"began": one["started"], "ended": one["ended"]} for one in results]
    peaks = [one["peak_memory"].get("gpu", 0) / 1e6 for one in results]
    if on_gpu:
        assert "Trials share GPUs from now on" in printed, f"no two have shared it:\n{printed}"
        assert overlap(times[:5]) == 1, "two shared it before their memory was known"
        assert overlap(times[5:]) == 2, "no two ran at the same time"
        assert 0 < min(peaks) > 0.5 * max(peaks), f"a neighbour's memory counts: {peaks} MB"
    return f"at a time: {overlap(times)}; peaks of {min(peaks):.0f} to {max(peaks):.0f} MB"


def marked(folder: Path, on_gpu: bool) -> str:
    """The suite's own tests that are marked gpu."""
    if find_spec("pytest") is None:
        raise NotHereError("pytest is not installed")
    files = ["tests/torch", "tests/parallel/test_torch_processes.py"]
    options = [
        "-q",
        "-m",
        "gpu",
        "-W",
        "ignore::pytest.PytestConfigWarning",
        "-p",
        "no:cacheprovider",
        "-o",
        "addopts=--import-mode=importlib",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *files], cwd=ROOT, capture_output=True, text=True
    )
    if "ModuleNotFoundError" in done.stdout:
        raise NotHereError(f"a package of the tests is not installed\n{done.stdout[-2000:]}")
    last = (done.stdout.strip().splitlines() or [done.stderr.strip()])[-1]
    assert done.returncode == 0, f"{last}\n{done.stdout[-3000:]}"
    return last


#: Every check by its name, with the seconds that it may take.
CHECKS = {
    slots: 90,
    fork: 60,
    precision: 75,
    out_of_memory: 45,
    resume: 90,
    data: 45,
    nvml: 45,
    throughput: 90,
    sharing: 90,
    packing: 120,
    marked: 90,
}


def main() -> int:
    """Runs one check: ``checks.py NAME gpu|cpu``; prints its sentence."""
    check = {one.__name__: one for one in CHECKS}[sys.argv[1]]
    with tempfile.TemporaryDirectory(prefix="dlsweep-gpu-") as folder:
        try:
            print(check(Path(folder), sys.argv[2] == "gpu"))
        except NotHereError as reason:
            print(reason)
            return 3
        except AssertionError as wrong:
            print(wrong)
            return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
