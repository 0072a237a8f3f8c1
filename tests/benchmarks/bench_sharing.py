"""A sweep whose trials share GPUs by predicted memory, against one trial a GPU.

``python tests/benchmarks/bench_sharing.py``: 48 trainings of two seconds on two GPUs of 80 GB, with
2 to 60 GB each. The GPUs are a library in the place of NVIDIA's, and a training only waits. So this
says what the sweep loop makes of the memory, and nothing about how fast a GPU is for several.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "machine"))
import fake_gpus

SWEEP = (
    *("-m", "dlsweep", "+experiment=quadratic", "training._target_=holds.train", "tracking=none"),
    *("training.seconds=2", "system_metrics=0.5", "training.x=interval(-5,5)", "training.y=0"),
    *("+training.gigabytes=tag(log,interval(2.0,60.0))", "hydra.sweeper.seed=1", "-m"),
    *("hydra/sweeper/sampler=random", "hydra/sweeper/pruner=none", "hydra.sweeper.n_trials=48"),
)


def seconds(share: str) -> float:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        env = {**os.environ, **fake_gpus.build(folder / "machine"), "CUDA_VISIBLE_DEVICES": "0,1"}
        (folder / "holds.py").write_text((fake_gpus.HERE / "holds.py").read_text())
        command = [sys.executable, *SWEEP, f"launcher.gpus_per_trial={share}"]
        begun = time.perf_counter()
        subprocess.run(command, cwd=folder, env=env, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - begun


def main() -> None:
    found = {share: seconds(share) for share in ("1", "auto")}
    for share, lasted in found.items():
        print(f"gpus_per_trial={share:<5}{lasted:6.1f} s")
    print(f"auto is {found['1'] / found['auto']:.2f} times as fast")


if __name__ == "__main__":
    main()
