"""A training that saves at every step, and notes what it really did in work.txt."""

import json
import time
from pathlib import Path


def train(run, cfg):
    options = cfg.training
    found = run.checkpoints.latest()
    state = {"step": 0, "noise": 0.3 + options.x / 100, "best": 1e9}
    if found:
        state = json.loads((found.path / "state.json").read_text())
    hurry = Path(options.get("hurry", "none"))  # the steps take no time once there is this file
    work = (run.dir.path / "work.txt").open("a", buffering=1)
    for step in range(state["step"] + 1, options.steps + 1):
        time.sleep(0 if hurry.exists() else options.seconds)
        noise = 3.9 * state["noise"] * (1 - state["noise"])  # chaotic: any slip shows
        loss = (options.x - 2) ** 2 + (options.y + 1) ** 2 + noise + 10 / step
        state = {"step": step, "noise": noise, "best": min(loss, state["best"])}
        work.write(f"{step}\n")  # first: a kill after the log may be the trial's end
        run.log({"val/loss": loss, "noise": noise}, step)
        text = json.dumps(state)
        run.checkpoints.save(step, lambda folder, text=text: save(folder, text), {"val/loss": loss})
        if run.should_stop:
            break
    return {"val/loss": state["best"]}


def save(folder, text):
    (folder / "state.json").write_text(text)
