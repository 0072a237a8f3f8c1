"""A training that waits at its fourth step until the file ``go`` is there."""

import time
from pathlib import Path


def train(run, cfg):
    with (run.dir.path / "work.txt").open("a", buffering=1) as work:
        for step in range(1, 9):
            work.write(f"{step}\n")
            run.log({"val/loss": 1 / step + cfg.training.x}, step)
            while step == 4 and not Path("go").exists():
                time.sleep(0.05)
    return {"val/loss": 1 / 8 + cfg.training.x}
