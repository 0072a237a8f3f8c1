"""Times the report page: writing it, and opening it in headless Chromium until all is drawn.

Run it with ``python tests/benchmarks/bench_report.py``. A page of 10,000 trials with their curves
should open in 3 seconds and have 6 MB at most; that of a usual sweep should be written in a second
and have 1.5 MB at most.
"""

from __future__ import annotations

import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "results"))

import headless
import made_studies as studies

from dlsweep.results.report.page import write_page
from dlsweep.results.tables import Finished

ROUNDS = 5


def trials(count: int, seed: int = 0) -> list[studies.Made]:
    """Makes trials with curves of 3 to 30 steps, more than half of them pruned."""
    rng = random.Random(seed)
    made = []
    for number in range(count):
        params = {
            studies.OPTIMIZER: rng.choice(["adam", "sgd"]),
            studies.LR: 10 ** rng.uniform(-4, -1),
            studies.HIDDEN: rng.randint(32, 512),
        }
        top = rng.uniform(0.7, 0.98)
        curve = [top * (1 - 0.8 ** (k + 1)) for k in range(rng.randint(3, 30))]
        status = "completed" if rng.random() < 0.45 else "pruned"
        begun = 2.0 * (number // 2)
        span = (begun, begun + rng.uniform(1.2, 2.0))
        made.append(studies.Made(params, [curve[-1]], curve, status, span=span))
    return made


def measure(count: int, seconds: float, megabytes: float) -> None:
    """Prints the figures of a study with that many trials."""
    with tempfile.TemporaryDirectory() as temporary:
        made = trials(count)
        folder, study = studies.make_study(Path(temporary) / "mine", made, storage=None)
        points = sum(len(one.curve) for one in made)
        start = time.perf_counter()
        write_page([Finished(folder, study)], folder.report)
        written = time.perf_counter() - start
        size = folder.report.stat().st_size / 1e6
        print(f"{count} trials, {points} points of curves:")
        print(f"  written in {written:.2f} s; {size:.2f} MB   (bar {megabytes} MB)")
        if not (headless.BROWSER and headless.DRIVER):
            print(f"  opening it {headless.MISSING}")
            return
        opened = []
        for _ in range(ROUNDS):
            with headless.chromium() as driver:
                headless.resize(driver, 1280)
                opened.append(headless.open_page(driver, headless.address_of(folder.report)) / 1000)
        low, middle, high = min(opened), statistics.median(opened), max(opened)
        print(f"  drawn after {middle:.2f} s, {low:.2f} to {high:.2f}   (bar {seconds} s)")


if __name__ == "__main__":
    measure(24, 1.0, 1.5)
    measure(10_000, 3.0, 6.0)
