"""What tracking costs a sweep.

Prints the wall time of 24 trials of the shipped experiment with all four trackers against none
(bar 1.03). Each is timed twice, in the order all, none, none, all: a machine whose speed drifts
treats both alike. What is told of a trial takes as long whatever its length, so the optional
argument, the epochs of a trial, matters: the default makes trials of about 20 s.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time

ALL, NONE = "[mlflow,wandb,tensorboard,csv]", "none"


def time_sweep(tracking: str, epochs: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "dlsweep", f"training.epochs={epochs}", "seed=range(24)"]
        command += [f"tracking={tracking}", "-m"]
        start = time.perf_counter()
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - start


def main(epochs: int) -> None:
    seconds: dict[str, list[float]] = {ALL: [], NONE: []}
    for tracking in (ALL, NONE, NONE, ALL):
        seconds[tracking].append(time_sweep(tracking, epochs))
        print(f"{tracking} {seconds[tracking][-1]:.1f} s", flush=True)
    print(f"ratio {sum(seconds[ALL]) / sum(seconds[NONE]):.3f}   (bar 1.03)")


if __name__ == "__main__":
    main(int((*sys.argv[1:], "60")[0]))
