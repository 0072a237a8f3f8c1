"""``dlsweep.report``: pruning for a user's own Hydra app.

A sweep runs the app's own command for each trial. A Hydra callback writes the function's return
value to the run folder.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from dlsweep.run.channel import RUN_VARIABLE, Channel
from dlsweep.run.run import Run


@functools.cache
def current_run() -> Run | None:
    """Returns the run of this process, or None outside of a sweep."""
    path = os.environ.get(RUN_VARIABLE)
    return Run.open(Path(path), Channel.inherited()) if path else None


def report(value: float, step: int) -> bool:
    """Reports the objective at a step; returns whether to stop.

    Outside of a sweep it does nothing, so the same script also runs alone.

    Args:
        value: The objective's value.
        step: The step, such as the epoch; each step once, ascending.

    Returns:
        True if the training should save and return now.
    """
    run = current_run()
    if run is None:
        return False
    run.log({run.info.objective[0]: value}, step)
    return run.should_stop


def set_user_attr(key: str, value: Any) -> None:
    """Sets a user attribute of the trial; see :meth:`dlsweep.Run.set_user_attr`.

    Outside of a sweep it does nothing, so the same script also runs alone.
    """
    if run := current_run():
        run.set_user_attr(key, value)


class ResultCallback(Callback):
    """Writes the return value or the exception of the app's function as the trial's result."""

    def on_job_start(self, config: DictConfig, **_: Any) -> None:  # noqa: ARG002 - Hydra's signature
        """Locks the run folder."""
        current_run()

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:  # noqa: ARG002
        """Writes the result."""
        from dlsweep.trial.task import execute

        run = current_run()
        assert run is not None
        with run:
            execute(run, lambda _: job_return.return_value)
