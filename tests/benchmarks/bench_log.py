"""Times ``run.log`` on the thread that trains.

Run it with ``python tests/benchmarks/bench_log.py``; a call should take at most 50 microseconds.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from omegaconf import OmegaConf

from dlsweep.folders.rundir import RunDir, RunInfo
from dlsweep.run.run import Run

CALLS, BAR = 5_000, 50.0
METRICS = {
    "train/loss": 0.41,
    "train/accuracy": 0.87,
    "val/loss": 0.39,
    "val/accuracy": 0.88,
    "lr": 1e-3,
}


def main() -> None:
    info = RunInfo("0", "0", "bench", 0, ["val/accuracy"], ["maximize"], [], {}, {}, 0.0)
    times = []
    with tempfile.TemporaryDirectory() as folder:
        run_dir = RunDir(Path(folder) / "run")
        run_dir.create(info, OmegaConf.create())
        with Run.open(run_dir.path) as run:
            for step in range(CALLS):
                start = time.perf_counter()
                run.log(METRICS, step)
                times.append(1e6 * (time.perf_counter() - start))
    print(f"run.log of {len(METRICS)} metrics: {statistics.median(times):.1f} us   (bar {BAR:.0f})")


if __name__ == "__main__":
    main()
