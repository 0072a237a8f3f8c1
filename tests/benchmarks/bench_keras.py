"""Times a Keras trial against the same ``model.fit`` by hand, and its start against an import.

The ratio of the trainings should stay under 1.05; both save a checkpoint after each epoch. A warm
trial, from its fork to its first line of code, should be 10 times cheaper than a fresh
``python -c "import tensorflow"``.

Run it with ``python tests/benchmarks/bench_keras.py``.
"""

from __future__ import annotations

import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"

import by_hand_keras
import keras
from side_by_side import compare, fit

from dlsweep.data import Data
from dlsweep.keras.models import MLP
from dlsweep.keras.optimizers import Adam
from dlsweep.keras.trainer import KerasTrainer, setup
from dlsweep.run.run import Run

EPOCHS, BATCH_SIZE, ROUNDS, TRIALS = 4, 128, 5, 10
BAR, TIMES = 1.05, 10


class OurTrial(KerasTrainer):
    """The shipped trainer on data that both share."""

    data: Data

    def build_model(self, run: Run) -> keras.Model:
        return MLP([1, 28, 28], 10, hidden=[256, 128], dropout=0.2)

    def build_data(self, run: Run) -> object:
        return self.data


def train_with_trainer(data: Data, folder: Path) -> None:
    trainer = OurTrial(functools.partial(Adam, lr=1e-3), None, EPOCHS, BATCH_SIZE)
    trainer.data = data
    fit(trainer, folder)


def train_by_hand(data: Data, folder: Path) -> None:
    by_hand_keras.train(data, EPOCHS, BATCH_SIZE, [256, 128], folder=folder)


def warm_start() -> float:
    """Seconds from the fork of a trial until it is at work, on a machine that does nothing else."""
    code = "import time\ndef train(run, cfg):\n    return {'val/loss': time.time()}\n"
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "clock.py").write_text(code)
        command = [sys.executable, "-m", "dlsweep", "+experiment=quadratic", "framework=keras"]
        command += ["tracking=none", "training._target_=clock.train", "hydra.sweeper.n_jobs=1"]
        command += [f"hydra.sweeper.n_trials={TRIALS}", "hydra/sweeper/pruner=none", "-m"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        trials = sorted(Path(folder, "outputs/quadratic/trials").iterdir())
        return statistics.median(map(_start_of, trials))


def _start_of(trial: Path) -> float:
    at_work = json.loads((trial / "result.json").read_text())["metrics"]["val/loss"]
    return at_work - (trial / "run.json").stat().st_mtime


def fresh_import() -> float:
    times = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import tensorflow"], check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    setup(seed=0, threads=1)
    compare(train_with_trainer, train_by_hand, ROUNDS, BAR)
    warm, fresh = warm_start(), fresh_import()
    print(f"warm start  {warm * 1e3:.0f} ms   fresh import of TensorFlow   {fresh * 1e3:.0f} ms")
    print(f"times cheaper {fresh / warm:.0f}   (bar {TIMES})")


if __name__ == "__main__":
    main()
