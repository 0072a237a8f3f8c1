"""The shipped sweep, written by hand: Optuna alone, two processes on one SQLite study.

``python hand_sweep.py <folder>`` starts both; each ends when 24 trials have been made.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

import optuna

N_TRIALS, EPOCHS = 24, 27


@dataclass(frozen=True)
class Space:
    """The ranges that are searched; those of ``+experiment=mnist`` unless others are given."""

    lr: tuple[float, float] = (1e-4, 1e-1)
    hidden: tuple[int, int] = (32, 512)
    dropout: tuple[float, float] = (0.0, 0.5)


def objective(trial: optuna.Trial, space: Space = Space()) -> float:
    from by_hand import train

    optimizer = trial.suggest_categorical("optimizer", ["adam", "sgd"])
    options = {
        "lr": trial.suggest_float("lr", *space.lr, log=True),
        "momentum": trial.suggest_float("momentum", 0.0, 0.99) if optimizer == "sgd" else 0.0,
        "batch_size": trial.suggest_categorical("batch_size", [64, 128, 256]),
        "hidden": trial.suggest_int("hidden", *space.hidden, log=True),
        "dropout": trial.suggest_float("dropout", *space.dropout),
    }

    def report(value: float, step: int) -> bool:
        trial.report(value, step)
        if trial.should_prune():
            raise optuna.TrialPruned
        return False

    from dlsweep.data import mnist

    return train(mnist(), EPOCHS, optimizer=optimizer, report=report, **options)


def work(storage: str, seed: int) -> None:
    import torch

    torch.set_num_threads(1)
    study = open_study(storage, seed)
    stop = optuna.study.MaxTrialsCallback(N_TRIALS, states=None)
    study.optimize(objective, callbacks=[stop])


def open_study(storage: str, seed: int) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(
        study_name="mnist",
        storage=storage,
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=seed),
        pruner=optuna.pruners.HyperbandPruner(max_resource=EPOCHS),
        load_if_exists=True,
    )


def main(folder: str) -> None:
    storage = f"sqlite:///{folder}/study.db"
    open_study(storage, 0)
    commands = [[sys.executable, __file__, storage, str(seed)] for seed in (1, 2)]
    workers = [subprocess.Popen(command) for command in commands]
    codes = [worker.wait() for worker in workers]
    assert codes == [0, 0]


if __name__ == "__main__":
    if len(sys.argv) == 2:
        main(sys.argv[1])
    else:
        work(sys.argv[1], int(sys.argv[2]))
