"""The smallest experiment: your own training function, without any framework."""

from __future__ import annotations

import time

from omegaconf import DictConfig

from dlsweep import Run


def train(run: Run, cfg: DictConfig) -> dict[str, float]:
    """Minimizes ``(x - 2)² + (y + 1)²`` step by step and logs the loss.

    Args:
        run: The run to log with; it also says when to stop.
        cfg: The composed config; ``cfg.training`` has x, y, steps, and seconds for each step.

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
