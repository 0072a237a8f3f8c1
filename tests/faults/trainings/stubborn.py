"""A training that looks at nothing the first time, and goes on well the second."""

import time


def train(run, cfg):
    begun = run.dir.path / "begun"
    if not begun.exists():
        begun.touch()
        time.sleep(600)
    run.log({"val/loss": 1.0}, 1)
    return {"val/loss": 1.0}
