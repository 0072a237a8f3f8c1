"""Times ``+experiment=mnist -m`` against the same sweep written by hand with Optuna alone.

Same space, sampler and pruner, two processes, start-up included; MLflow and TensorBoard are on in
ours and absent in the other. Run it with ``python tests/benchmarks/bench_shipped.py``. Pruning
depends on timing, so the two do not make quite the same epochs; those are printed too.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import optuna

ROUNDS, BAR = 3, 1.15
HAND = Path(__file__).with_name("hand_sweep.py")


def timed(command: list[str], folder: str) -> float:
    start = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def epochs(database: Path) -> int:
    study = optuna.load_study(study_name="mnist", storage=f"sqlite:///{database}")
    return sum(len(trial.intermediate_values) for trial in study.trials)


def main() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    pairs = []
    for number in range(ROUNDS):
        with tempfile.TemporaryDirectory() as ours, tempfile.TemporaryDirectory() as hand:
            sides = {
                "ours": ([sys.executable, "-m", "dlsweep", "+experiment=mnist", "-m"], ours),
                "hand": ([sys.executable, str(HAND), hand], hand),
            }
            order = list(sides) if number % 2 else list(reversed(sides))
            seconds = {side: timed(*sides[side]) for side in order}
            made = epochs(Path(ours) / "outputs/mnist/study.db"), epochs(Path(hand) / "study.db")
        pairs.append((seconds["ours"], seconds["hand"]))
        ratio = seconds["ours"] / seconds["hand"]
        print(
            f"dlsweep {seconds['ours']:.1f} s ({made[0]} epochs)   "
            f"by hand {seconds['hand']:.1f} s ({made[1]} epochs)   ratio {ratio:.2f}",
            flush=True,
        )
    print(f"ratio {statistics.median(a / b for a, b in pairs):.3f}   (bar {BAR})")


if __name__ == "__main__":
    main()
