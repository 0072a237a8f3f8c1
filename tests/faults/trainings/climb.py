"""A training whose checkpoints tell who has trained each of their steps, and with which x."""

import json
import time


def train(run, cfg):
    options = cfg.training
    found = run.checkpoints.latest()
    state = {"loss": 10.0, "path": []}
    if found:
        state = json.loads((found.path / "state.json").read_text())
    for step in range(len(state["path"]) + 1, options.steps + 1):
        time.sleep(options.seconds)
        loss = state["loss"] * (0.9 + (options.x - 2) ** 2 / 500)
        state = {"loss": loss, "path": [*state["path"], [run.info.number, options.x]]}
        run.log({"val/loss": loss}, step)
        text = json.dumps(state)
        run.checkpoints.save(step, lambda folder, text=text: save(folder, text), {"val/loss": loss})
        if run.should_stop:
            break
    return {"val/loss": state["loss"]}


def save(folder, text):
    (folder / "state.json").write_text(text)
