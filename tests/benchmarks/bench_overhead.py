"""What orchestration costs: 24 equal trainings at 2 slots, against 2 bare processes.

Prints the share of slot time that was spent inside training (bar 95%) and the ratio of wall times
(bar 1.05), start-up included, MLflow and TensorBoard on in ours. An optional argument is the
number of epochs; the default makes trainings of about 10 s.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SEEDS = range(24)
MODEL = {"hidden": [512, 256], "batch_size": 64}


def bare(epochs: int, seeds: list[int]) -> None:
    import torch
    from by_hand import train

    from dlsweep.data import mnist

    torch.set_num_threads(1)
    for seed in seeds:
        train(mnist(), epochs, seed=seed, **MODEL)


def time_bare(epochs: int) -> float:
    start = time.perf_counter()
    commands = [
        [sys.executable, __file__, str(epochs), ",".join(map(str, SEEDS[half::2]))]
        for half in (0, 1)
    ]
    workers = [subprocess.Popen(command) for command in commands]
    assert [worker.wait() for worker in workers] == [0, 0]
    return time.perf_counter() - start


def time_ours(epochs: int, folder: str) -> tuple[float, float]:
    start = time.perf_counter()
    command = [
        sys.executable,
        "-m",
        "dlsweep",
        f"training.epochs={epochs}",
        "model.hidden=[512,256]",
    ]
    command += ["training.batch_size=64", f"seed=range({len(SEEDS)})", "-m"]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    wall = time.perf_counter() - start
    results = [
        json.loads(p.read_text()) for p in Path(folder).glob("outputs/*/trials/*/result.json")
    ]
    assert len(results) == len(SEEDS)
    slots = 2 * (max(r["ended"] for r in results) - min(r["started"] for r in results))
    return wall, sum(r["train_seconds"] for r in results) / slots


def main(epochs: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ours, share = time_ours(epochs, folder)
    hand = time_bare(epochs)
    print(f"dlsweep {ours:.1f} s   bare {hand:.1f} s")
    print(f"share of slot time in training {share:.1%}   (bar 95%)")
    print(f"ratio {ours / hand:.3f}   (bar 1.05)")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        bare(int(sys.argv[1]), [int(seed) for seed in sys.argv[2].split(",")])
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 25)
