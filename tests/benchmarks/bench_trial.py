"""What one trial and one command cost.

A no-op trial in its own warm process at 2 slots, against a fresh ``python -c "import torch"`` (at
least 10 times cheaper); asking for the next trial at 1,000 trials (at most 50 ms); ``--help``
against ``python -c "import hydra"`` (at most 4 times).
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

TRIALS = 60
NO_OP = "def train(run, cfg):\n    return {'val/loss': cfg.training.x}\n"


def seconds(*arguments: str, rounds: int = 7, cwd: str | None = None) -> float:
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True, cwd=cwd)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def no_op_trial() -> float:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "nothing.py").write_text(NO_OP)
        arguments = ["-m", "dlsweep", "+experiment=quadratic", "framework=torch"]
        arguments += ["training._target_=nothing.train", f"hydra.sweeper.n_trials={TRIALS}", "-m"]
        seconds(*arguments, rounds=1, cwd=folder)
        table = pd.read_csv(Path(folder, "outputs/quadratic/trials.csv"))
        starts = pd.to_datetime(table["start"])
    # With two slots always full, the time between starts is what a trial costs.
    return float(starts.sort_values().diff().dt.total_seconds().median())


def asking(trials: int = 1000) -> float:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    from dlsweep.folders.rundir import Result
    from dlsweep.sweep.space import SearchSpace, dimension_of
    from dlsweep.sweep.study import Study, StudySettings

    class Flat:
        """An app without groups, whose config has every key."""

        def is_group(self, key: str) -> bool:
            return False

        def has_key(self, choices: list[str], key: str) -> bool:
            return True

    texts = ["lr=tag(log,interval(1e-4,1e-1))", "b=choice(64,128,256)", "h=int(interval(8,512))"]
    space = SearchSpace(
        [dimension_of(o) for o in OverridesParser.create().parse_overrides(texts)], Flat()
    )
    sampler = {"_target_": "optuna.samplers.TPESampler", "seed": None}
    with tempfile.TemporaryDirectory() as folder:
        storage = f"sqlite:///{folder}/study.db"
        settings = StudySettings("ask", storage, ["loss"], ["minimize"], sampler, {}, seed=0)
        study = Study(settings, space)
        times = []
        for _ in range(trials):
            start = time.perf_counter()
            trial = study.ask()
            times.append(time.perf_counter() - start)
            study.tell(trial, Result("completed", "", {"loss": float(trial.params["lr"])}))
    return statistics.median(times[-50:])


def main() -> None:
    fresh, warm = seconds("-c", "import torch"), no_op_trial()
    print(f"no-op trial {warm * 1e3:.0f} ms   fresh import of torch {fresh * 1e3:.0f} ms")
    print(f"times cheaper {fresh / warm:.1f}   (bar 10)")
    print(f"ask at 1,000 trials {asking() * 1e3:.0f} ms   (bar 50 ms)")
    helped, hydra = seconds("-m", "dlsweep", "--help"), seconds("-c", "import hydra")
    print(
        f"--help {helped:.2f} s   import hydra {hydra:.2f} s   ratio {helped / hydra:.1f}   (bar 4)"
    )


if __name__ == "__main__":
    main()
