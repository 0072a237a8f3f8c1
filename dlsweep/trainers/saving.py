"""Decides when to save a checkpoint within an epoch."""

from __future__ import annotations

import math
import time

from dlsweep.run.run import Run

#: How often a training looks for a stop request within an epoch, in seconds.
_LOOK_EVERY = 0.1


class MidEpoch:
    """Decides after which steps to save before the epoch's end.

    Args:
        run: The run; a stop request is a reason to save.
        steps: Optimizer steps between two checkpoints; None for no such limit.
        seconds: Seconds between two checkpoints; None for no such limit.
    """

    def __init__(self, run: Run, steps: int | None, seconds: float | None) -> None:
        self._run = run
        self._steps = steps
        self._seconds = seconds or math.inf
        self._saved = self._looked = time.monotonic()

    def is_due(self, step: int) -> bool:
        """Whether to save after this step of the epoch, counted from 1."""
        return self._run.ranks.agree(lambda: self._is_due(step))

    def _is_due(self, step: int) -> bool:
        now = time.monotonic()
        due = now - self._saved > self._seconds or bool(self._steps and step % self._steps == 0)
        if now - self._looked > _LOOK_EVERY:
            self._looked = now
            due = due or self._run.pending_stop is not None
        if due:
            self._saved = now
        return due
