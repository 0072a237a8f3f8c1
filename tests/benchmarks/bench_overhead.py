"""What orchestration costs: 24 equal trainings at 2 slots, against 2 bare processes.

Prints the share of slot time that was spent inside training (bar 95%) and the ratio of wall times
(bar 1.05), start-up included, MLflow and TensorBoard on in ours. Each is timed twice, in the order
ours, bare, bare, ours: a machine whose speed drifts treats both alike. Both save each epoch, the
bare script as its framework does by itself. Optional arguments are the number of epochs, of which
the default makes trainings of about 10 s, and the framework.
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


def bare(epochs: int, framework: str, seeds: list[int]) -> None:
    from dlsweep.data import mnist

    if framework == "torch":
        import torch
        from by_hand import train

        torch.set_num_threads(1)
    else:
        from by_hand_keras import train, use_one_thread

        use_one_thread()
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            train(mnist(), epochs, seed=seed, folder=Path(folder), **MODEL)


def time_bare(epochs: int, framework: str) -> float:
    start = time.perf_counter()
    commands = [
        [sys.executable, __file__, str(epochs), framework, ",".join(map(str, SEEDS[half::2]))]
        for half in (0, 1)
    ]
    workers = [subprocess.Popen(command) for command in commands]
    assert [worker.wait() for worker in workers] == [0, 0]
    return time.perf_counter() - start


def time_ours(epochs: int, framework: str, folder: str) -> tuple[float, float]:
    start = time.perf_counter()
    command = [
        sys.executable,
        "-m",
        "dlsweep",
        f"framework={framework}",
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


def main(epochs: int, framework: str) -> None:
    ours: list[float] = []
    hand: list[float] = []
    for is_ours in (True, False, False, True):
        if is_ours:
            with tempfile.TemporaryDirectory() as folder:
                wall, share = time_ours(epochs, framework, folder)
            print(f"dlsweep {wall:.1f} s   share of slot time in training {share:.1%}   (bar 95%)")
            ours.append(wall)
        else:
            hand.append(time_bare(epochs, framework))
            print(f"bare {hand[-1]:.1f} s")
    print(f"ratio {sum(ours) / sum(hand):.3f}   (bar 1.05)")


if __name__ == "__main__":
    epochs, framework, *seeds = (*sys.argv[1:], *("10", "torch")[len(sys.argv) - 1 :])
    if seeds:
        bare(int(epochs), framework, [int(seed) for seed in seeds[0].split(",")])
    else:
        main(int(epochs), framework)
