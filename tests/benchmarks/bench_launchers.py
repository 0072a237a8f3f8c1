"""The same sweep on this machine, on a local Ray cluster, and with Ray Tune if it is installed.

``python tests/benchmarks/bench_launchers.py``: 24 trainings of one second, two at a time.
"""

from __future__ import annotations

import importlib.util
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

TRIALS, SLOTS, STEPS, ROUNDS = 24, 2, 10, 3
TUNE = f"""
import time
from ray import tune

def train(config):
    for step in range({STEPS}):
        time.sleep(1 / {STEPS})
        tune.report({{"loss": config["x"] ** 2 / (step + 1)}})

tune.Tuner(
    tune.with_resources(train, {{"cpu": 1}}),
    param_space={{"x": tune.uniform(-5, 5)}},
    tune_config=tune.TuneConfig(num_samples={TRIALS}, max_concurrent_trials={SLOTS}),
).fit()
"""


def sweep(folder: Path, launcher: str) -> tuple[float, float]:
    """Runs the sweep; returns its seconds, and the seconds that each trial costs besides."""
    slots = {"local": f"hydra.sweeper.n_jobs={SLOTS}", "ray": f"launcher.slots={SLOTS}"}[launcher]
    options = [f"launcher={launcher}", slots, f"outputs={folder}", "tracking=csv"]
    sized = [f"training.steps={STEPS}", f"training.seconds={1 / STEPS}"]
    asked = ["-m", "+experiment=quadratic", "hydra/sweeper/pruner=none", *sized, *options]
    start = time.perf_counter()
    run(["-m", "dlsweep", *asked, f"hydra.sweeper.n_trials={TRIALS}"], folder)
    seconds = time.perf_counter() - start
    table = pd.read_csv(folder / "quadratic" / "trials.csv", parse_dates=["start"])
    ends = table["start"] + pd.to_timedelta(table["duration"], unit="s")
    span = (ends.max() - table["start"].min()).total_seconds()
    return seconds, span * SLOTS / TRIALS - 1


def run(arguments: list[str], folder: Path) -> None:
    subprocess.run([sys.executable, *arguments], cwd=folder, check=True, capture_output=True)


def main() -> None:
    seconds: dict[str, list[float]] = {"local": [], "ray": []}
    costs: dict[str, list[float]] = {"local": [], "ray": []}
    for number in range(ROUNDS):
        for launcher in ("local", "ray") if number % 2 else ("ray", "local"):
            with tempfile.TemporaryDirectory() as folder:
                took, cost = sweep(Path(folder), launcher)
            seconds[launcher].append(took)
            costs[launcher].append(cost)
    took = {name: statistics.median(times) for name, times in seconds.items()}
    cost = {name: statistics.median(times) for name, times in costs.items()}
    for name in took:
        print(f"{name:<6} {took[name]:6.2f} s   {cost[name] * 1000:4.0f} ms a trial besides")
    print(f"ray / local  {took['ray'] / took['local']:.2f}   (bar 1.5)")
    print(f"ray - local  {(cost['ray'] - cost['local']) * 1000:.0f} ms a trial   (bar 100)")
    if importlib.util.find_spec("tensorboardX") is None:
        print("Ray Tune is not installed:  pip install 'ray[tune]'")
        return
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        run(["-c", TUNE], Path(folder))
        print(f"tune   {time.perf_counter() - start:6.2f} s")


if __name__ == "__main__":
    main()
