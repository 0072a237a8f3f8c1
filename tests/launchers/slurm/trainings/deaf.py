"""A training that saves at every step, and never looks whether it should stop."""

import time


def train(run, cfg):
    found = run.checkpoints.latest()
    with (run.dir.path / "work.txt").open("a", buffering=1) as work:
        for step in range(found.step + 1 if found else 1, cfg.training.steps + 1):
            time.sleep(cfg.training.seconds)
            work.write(f"{step}\n")
            run.log({"val/loss": 1 / step}, step)
            run.checkpoints.save(step, lambda folder: (folder / "state").touch())
    return {"val/loss": 1 / cfg.training.steps}
