"""What the trainers' benchmarks share: both ways in turn, in one process, on the same data."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from omegaconf import OmegaConf

from dlsweep.data import Data, mnist
from dlsweep.folders.rundir import RunDir, RunInfo
from dlsweep.run.run import Run
from dlsweep.trainers.epoch_trainer import EpochTrainer

#: Trains on the data, with a folder to save in.
Way = Callable[[Data, Path], object]


def fit(trainer: EpochTrainer, folder: Path) -> None:
    """Trains in a run folder, with no driver and no tracker."""
    info = RunInfo("0", "0", "bench", 0, ["val/accuracy"], ["maximize"], [], {}, {}, 0.0)
    run_dir = RunDir(folder / "run")
    run_dir.create(info, OmegaConf.create())
    with Run.open(run_dir.path) as run:
        trainer.fit(run)


def compare(ours: Way, by_hand: Way, rounds: int, bar: float) -> None:
    """Prints the median seconds of both on MNIST, and their ratio."""
    data = mnist()
    ways = [ours, by_hand]
    times: dict[Way, list[float]] = {way: [] for way in ways}
    for number in range(rounds + 1):
        for way in ways if number % 2 else reversed(ways):
            with tempfile.TemporaryDirectory() as folder:
                start = time.perf_counter()
                way(data, Path(folder))
                times[way].append(time.perf_counter() - start)
    trainer, hand = (statistics.median(times[way][1:]) for way in ways)  # the first one warms up
    print(f"trainer  {trainer:.3f} s   by hand  {hand:.3f} s")
    print(f"ratio    {trainer / hand:.3f}   (bar {bar})")
