"""A training whose checkpoints need room."""

import os
import time


def train(run, cfg):
    found = run.checkpoints.latest()
    for step in range(found.step + 1 if found else 1, 5):
        time.sleep(0.02)
        with (run.dir.path / "work.txt").open("a") as work:
            work.write(f"{step}\n")
        run.log({"val/loss": cfg.training.x / step}, step)
        run.checkpoints.save(step, write)
        if run.should_stop:
            break
    return {"val/loss": cfg.training.x}


def write(folder):
    (folder / "weights").write_bytes(os.urandom(200_000))
