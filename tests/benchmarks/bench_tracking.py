"""What tracking costs a sweep.

Prints the wall time of 24 trials of the shipped experiment with all four trackers against none
(bar 1.03). Optional argument: the epochs of a trial.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time


def time_sweep(tracking: str, epochs: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "dlsweep", f"training.epochs={epochs}", "seed=range(24)"]
        start = time.perf_counter()
        subprocess.run([*command, f"tracking={tracking}", "-m"], cwd=folder, check=True)
        return time.perf_counter() - start


def main(epochs: int) -> None:
    none = time_sweep("none", epochs)
    everything = time_sweep("[mlflow,wandb,tensorboard,csv]", epochs)
    print(f"none {none:.1f} s   four trackers {everything:.1f} s")
    print(f"ratio {everything / none:.3f}   (bar 1.03)")


if __name__ == "__main__":
    main(int((*sys.argv[1:], "20")[0]))
