"""The smallest experiment: a training function of one's own, without any framework."""

from __future__ import annotations

import time

from omegaconf import DictConfig

from dlsweep import Run


def train(run: Run, cfg: DictConfig) -> dict[str, float]:
    """Walks towards the minimum of ``(x - 2)² + (y + 1)²`` and logs how far it is.

    Args:
        run: Where it logs, and what tells it to stop.
        cfg: The composed config; ``cfg.training`` holds x, y, steps and seconds a step.

    Returns:
        The last loss.
    """
    options = cfg.training
    goal = (options.x - 2) ** 2 + (options.y + 1) ** 2
    loss = goal
    for step in range(1, options.steps + 1):
        time.sleep(options.seconds)
        loss = goal + 1 / step
        run.log({"val/loss": loss}, step=step)
        if run.should_stop:
            break
    return {"val/loss": loss}
