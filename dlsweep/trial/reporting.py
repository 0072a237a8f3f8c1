"""``dlsweep.report``: all that a user's own Hydra app needs for pruning and resume.

A sweep of such an app runs its own command, once a trial; Hydra's callback writes what the app's
function returned into the run folder.
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
    """The run that this process is, or None outside of a sweep."""
    path = os.environ.get(RUN_VARIABLE)
    return Run.open(Path(path), Channel.inherited()) if path else None


def report(value: float, step: int) -> bool:
    """Reports how good the trial is so far, and tells whether it should stop.

    Outside of a sweep it does nothing, so that the same script runs alone.

    Args:
        value: The value that the sweep minimises or maximises.
        step: Where the training is, such as the epoch; reported once each, ascending.

    Returns:
        True if the training should save and return now.
    """
    run = current_run()
    if run is None:
        return False
    run.log({run.info.objective[0]: value}, step)
    return run.should_stop


class ResultCallback(Callback):
    """Writes what the app's function returned, or raised, as the trial's result."""

    def on_job_start(self, config: DictConfig, **_: Any) -> None:  # noqa: ARG002 - Hydra's signature
        """Takes hold of the run folder."""
        current_run()

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:  # noqa: ARG002
        """Writes the result."""
        from dlsweep.trial.task import execute

        run = current_run()
        assert run is not None
        with run:
            execute(run, lambda _: job_return.return_value)
