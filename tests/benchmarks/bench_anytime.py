"""How soon a sweep finds a good model: epochs and seconds to a share of the best known accuracy.

Side by side in one run, each with two slots and the same wall time: dlsweep with promotion, PASHA,
stopping Hyperband and no pruner; Optuna alone with Hyperband in two processes; Ray Tune with ASHA
and random search. All train the model of ``+experiment=mnist`` and search wide ranges, as one does
who knows nothing of them yet; ours and Optuna's with TPE, except where it says random. The best
known accuracy is the highest of all runs.

Arguments: the number of seeds (default 10), the seconds of each run (default 60), and methods.
Prints medians over the seeds with the quartiles; a run that does not get there counts as infinite.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hand_sweep import Space, open_study

EPOCHS = 27
SPACE = Space(lr=(1e-5, 10.0), hidden=(4, 512), dropout=(0.0, 0.9))
SHARES = (0.95, 0.99, 0.999)


@dataclass(frozen=True)
class Epoch:
    """One epoch of any training: seconds since the sweep's start, and its accuracy."""

    seconds: float
    accuracy: float


def dlsweep(pruner: str, sampler: str = "tpe") -> Callable[[Path, int, float], None]:
    def run(folder: Path, seed: int, seconds: float) -> None:
        arguments = [
            "+experiment=mnist",
            f"hydra/sweeper/pruner={pruner}",
            f"hydra/sweeper/sampler={sampler}",
            f"hydra.sweeper.seed={seed}",
            "hydra.sweeper.n_trials=100000",
            f"hydra.sweeper.timeout={seconds}",
            "launcher.cpus_per_trial=1",
            "hydra.sweeper.n_jobs=2",
            "tracking=none",
            f"training.optimizer.lr=tag(log,interval{SPACE.lr})",
            f"model.hidden=tag(log,int(interval{SPACE.hidden}))",
            f"model.dropout=interval{SPACE.dropout}",
            "hydra.sweeper.max_failure_rate=1",  # the largest rates diverge
        ]
        command = [sys.executable, "-m", "dlsweep", *arguments, "-m"]
        subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, check=False)

    return run


def by_hand(folder: Path, seed: int, seconds: float) -> None:
    """Optuna alone: two processes on one SQLite study."""
    storage = f"sqlite:///{folder}/study.db"
    open_study(storage, seed)
    arguments = [storage, str(folder), str(time.time() + seconds)]
    workers = [
        subprocess.Popen([sys.executable, __file__, "worker", *arguments, str(2 * seed + half)])
        for half in (0, 1)
    ]
    assert [worker.wait() for worker in workers] == [0, 0]


def worker(storage: str, folder: str, until: str, seed: str) -> None:
    """One of the two processes."""
    import hand_sweep
    import optuna
    import torch

    torch.set_num_threads(1)
    log = (Path(folder) / f"{seed}.epochs").open("a", buffering=1)
    report = optuna.Trial.report

    def logged(trial: optuna.Trial, value: float, step: int) -> None:
        log.write(f"{time.time()} {value}\n")
        report(trial, value, step)
        if time.time() > float(until):
            os._exit(0)

    optuna.Trial.report = logged
    open_study(storage, int(seed)).optimize(lambda trial: hand_sweep.objective(trial, SPACE))


def ray_tune(folder: Path, seed: int, seconds: float) -> None:
    """Ray Tune with ASHA and random search, as its documentation shows."""
    arguments = [str(folder), str(seed), str(seconds)]
    env = {**os.environ, "RAY_AUTH_MODE": "token", "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, __file__, "tune", *arguments]
    with (folder / "tune.log").open("w") as log:
        subprocess.run(command, env=env, stdout=log, stderr=log, check=True)


def tuned(config: dict[str, Any]) -> None:
    """The function that Ray Tune calls."""
    import torch
    from by_hand import train
    from ray import tune

    from dlsweep.data import mnist

    torch.set_num_threads(1)
    log = (Path(config.pop("folder")) / f"{os.getpid()}.epochs").open("a", buffering=1)

    def report(value: float, step: int) -> bool:
        log.write(f"{time.time()} {value}\n")
        tune.report({"accuracy": value, "epoch": step})
        return False

    train(mnist(), EPOCHS, report=report, **config)


def tune_process(folder: str, seed: str, seconds: str) -> None:
    import ray
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    space = {
        "folder": folder,
        "optimizer": tune.choice(["adam", "sgd"]),
        "lr": tune.loguniform(*SPACE.lr),
        "momentum": tune.uniform(0.0, 0.99),
        "batch_size": tune.choice([64, 128, 256]),
        "hidden": tune.lograndint(SPACE.hidden[0], SPACE.hidden[1] + 1),
        "dropout": tune.uniform(*SPACE.dropout),
    }
    scheduler = ASHAScheduler("epoch", max_t=EPOCHS, grace_period=1, reduction_factor=3)
    options = tune.TuneConfig(
        metric="accuracy",
        mode="max",
        scheduler=scheduler,
        num_samples=-1,
        time_budget_s=float(seconds),
    )
    where = tune.RunConfig(storage_path=f"{folder}/ray", verbose=0)
    import random

    import numpy

    random.seed(int(seed))
    numpy.random.seed(int(seed))
    tune.Tuner(
        tune.with_resources(tuned, {"cpu": 1}),
        param_space=space,
        tune_config=options,
        run_config=where,
    ).fit()


METHODS: dict[str, Callable[[Path, int, float], None]] = {
    "promote": dlsweep("promote"),
    "pasha": dlsweep("pasha"),
    "hyperband": dlsweep("hyperband"),
    "no pruner": dlsweep("none"),
    "random": dlsweep("none", "random"),
    "optuna hyperband": by_hand,
    "ray tune asha": ray_tune,
}


def epochs_of(folder: Path, start: float) -> list[Epoch]:
    """Reads every epoch that a run has trained, in the order of time."""
    found = []
    for file in folder.glob("outputs/*/trials/*/records.jsonl"):
        records = [json.loads(line) for line in file.read_text().splitlines()]
        found += [
            Epoch(record["time"] - start, record["metrics"]["val/accuracy"])
            for record in records
            if "val/accuracy" in record["metrics"]
        ]
    for file in folder.glob("*.epochs"):
        pairs = (map(float, line.split()) for line in file.read_text().splitlines())
        found += [Epoch(moment - start, value) for moment, value in pairs]
    return sorted(found, key=lambda epoch: epoch.seconds)


def reached(epochs: list[Epoch], goal: float) -> tuple[float, float]:
    """Returns the epochs and the seconds until an accuracy is reached."""
    for count, epoch in enumerate(epochs, 1):
        if epoch.accuracy >= goal:
            return count, epoch.seconds
    return math.inf, math.inf


def summary(values: list[float]) -> str:
    """Returns the median and the quartiles of a measure over the seeds."""
    ranked = sorted(values)
    low, high = ranked[len(ranked) // 4], ranked[(3 * len(ranked)) // 4]
    return f"{statistics.median_low(ranked):6.0f} [{low:.0f}, {high:.0f}]"


def main(seeds: int, seconds: float, names: list[str]) -> None:
    runs: dict[str, list[list[Epoch]]] = {name: [] for name in names}
    for seed in range(seeds):
        for name in names:
            with tempfile.TemporaryDirectory() as folder:
                start = time.time()
                METHODS[name](Path(folder), seed, seconds)
                epochs = epochs_of(Path(folder), start)
            best = max(epoch.accuracy for epoch in epochs)
            runs[name].append([epoch for epoch in epochs if epoch.seconds <= seconds])
            print(f"seed {seed}  {name:<18}{len(epochs):6} epochs   best {best:.4f}", flush=True)
    known = max(epoch.accuracy for tries in runs.values() for one in tries for epoch in one)
    print(f"\nbest known accuracy {known:.4f}; {seeds} seeds, {seconds:g} s each, 2 slots")
    print("median [quartiles] of epochs and of seconds until a share of it\n")
    for share in SHARES:
        print(f"{share:.1%} ({share * known:.4f})")
        for name, tries in runs.items():
            pairs = [reached(one, share * known) for one in tries]
            counts, times = zip(*pairs, strict=True)
            got = sum(math.isfinite(count) for count in counts)
            print(
                f"  {name:<18}{summary(list(counts)):>22} epochs {summary(list(times)):>22} s"
                f"   {got}/{seeds} runs"
            )


if __name__ == "__main__":
    words = sys.argv[1:]
    if words[:1] == ["worker"]:
        worker(*words[1:])
    elif words[:1] == ["tune"]:
        tune_process(*words[1:])
    else:
        main(
            int((words or ["10"])[0]), float((words[1:2] or ["60"])[0]), words[2:] or list(METHODS)
        )
