"""One trial, in its own process: seed, build, train, and write how it ended.

It reads its run folder and writes to it, and knows neither Optuna nor any tracker. What it is
to train stands in the composed config: ``training._target_`` is a Trainer class, or a plain
function ``train(run, cfg) -> metrics``.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.ma  # which numpy.unique would import in each trial
from omegaconf import DictConfig, OmegaConf

from dlsweep.errors import ConfigError, Diverged, DlsweepError, is_disk_full
from dlsweep.folders.rundir import (
    COMPLETED,
    DISK_FULL,
    DISK_FULL_CODE,
    FAILURES,
    Result,
    Status,
    first_nonfinite,
)
from dlsweep.machine.devices import THREADS_VARIABLE
from dlsweep.run.channel import RUN_VARIABLE, Channel
from dlsweep.run.ranks import Processes, Ranks
from dlsweep.run.run import Run
from dlsweep.security.secrets import Scrubbed, scrub
from dlsweep.trainers.base import Trainer
from dlsweep.trial.signature import build, is_trainer, locate
from dlsweep.trial.system_metrics import sampled

#: How a run ended: its status, the reason and its metrics.
Outcome: TypeAlias = tuple[Status, str, dict[str, float]]


def main() -> int:
    """Trains the run that the environment names; returns the exit code."""
    try:
        with Run.open(Path(os.environ[RUN_VARIABLE]), Channel.inherited()) as run, _scrubbed(run):
            return execute(run, train, _process_count(run.config))
    except OSError as error:
        if not is_disk_full(error):
            raise
        return DISK_FULL_CODE


def execute(run: Run, work: Callable[[Run], Any], processes: int = 1) -> int:
    """Does a run's work and writes its result.

    Args:
        run: The open run.
        work: Does the training; returns metrics by name, or the objective's value (or values).
        processes: How many do it together.

    Returns:
        1 if it failed, otherwise 0.
    """
    started = time.time()
    with _polite_signals(run):
        attempt = _attempt if processes == 1 else functools.partial(_attempt_together, processes)
        status, reason, metrics = attempt(run, work)
    reason = scrub(reason, run.dir.config_file.read_text())
    run.dir.write_result(Result(status, reason, metrics, started, time.time(), run.seconds))
    return int(status in FAILURES)


@contextlib.contextmanager
def _scrubbed(run: Run) -> Iterator[None]:
    """Keeps secrets out of the log."""
    config = run.dir.config_file.read_text()
    with (
        contextlib.redirect_stdout(Scrubbed(sys.stdout, config)),
        contextlib.redirect_stderr(Scrubbed(sys.stderr, config)),
    ):
        yield


def _attempt_together(processes: int, run: Run, work: Callable[[Run], Any]) -> Outcome:
    def attempt(ranks: Ranks) -> Outcome:
        run.join(ranks)
        return _attempt(run, work)

    with Processes(processes, attempt, run.dir.ranks) as together, _sampled(run):
        status, reason, metrics = together.outcome(lambda outcome: outcome[0] in FAILURES)
        return status, reason, metrics


def _attempt(run: Run, work: Callable[[Run], Any]) -> Outcome:
    try:
        metrics = _as_metrics(run, _settled(run, work))
        status = _status(run.stop_reason)
        if status not in COMPLETED:
            return status, "", metrics
        run.require(metrics)
        if name := first_nonfinite({key: metrics[key] for key in run.info.objective}):
            return "diverged", f"{name} is {metrics[name]}", metrics
        return status, "", metrics
    except Diverged as error:
        return "diverged", str(error), {}
    except DlsweepError as error:
        print(error, file=sys.stderr)
        return "crashed", str(error), {}
    except Exception as error:  # noqa: BLE001 - whatever user code raises is the trial's end
        if is_disk_full(error):
            return "interrupted", DISK_FULL, {}
        traceback.print_exc()
        reason = f"{type(error).__name__}: {error}"
        return ("out_of_memory" if _is_out_of_memory(error) else "crashed"), reason, {}


def _settled(run: Run, work: Callable[[Run], Any]) -> Any:
    """Does the work; what it saved is in place then, however it ends."""
    try:
        return work(run)
    finally:
        run.checkpoints.settle()


def _status(stop_reason: str | None) -> Status:
    """What a run is that ended without an error, by why it stopped."""
    named: tuple[Status, ...] = ("pruned", "preempted", "timed_out", "stopped_early")
    otherwise: Status = "interrupted" if stop_reason else "completed"
    return next((status for status in named if status == stop_reason), otherwise)


def train(run: Run) -> Any:
    """Trains what the run's config says; returns what its trainer or function returns."""
    config = run.config
    OmegaConf.resolve(config)
    with contextlib.nullcontext() if run.ranks.size > 1 else _sampled(run):
        _seed(config)
        target = locate("training", config.training["_target_"])
        if is_trainer(target):
            trainer: Trainer = build("training", config.training)
            return trainer.fit(run)
        return target(run, config)


def _sampled(run: Run) -> contextlib.AbstractContextManager[None]:
    return sampled(run.dir, run.config.get("system_metrics"))


def _process_count(config: DictConfig) -> int:
    """How many processes train together."""
    with contextlib.suppress(Exception):  # which the training meets again, and tells
        target = locate("training", config.training["_target_"])
        if is_trainer(target):
            return int(target.process_count(config.training))
    return 1


def _as_metrics(run: Run, returned: Any) -> dict[str, float]:
    """What training returned, as metrics by name."""
    if returned is None:
        return run.last_metrics()
    if isinstance(returned, Mapping):
        return {name: float(value) for name, value in returned.items()}
    values = list(returned) if isinstance(returned, list | tuple) else [returned]
    if len(values) == len(run.info.objective):
        with contextlib.suppress(TypeError, ValueError):
            return dict(zip(run.info.objective, map(float, values), strict=True))
    raise ConfigError(
        f"The training returned {returned!r}. Expected metrics by name, a number for each of "
        f"{', '.join(run.info.objective) or 'no objective'}, or nothing where all was logged."
    )


def _seed(config: DictConfig) -> None:
    """Seeds this process: by the framework's setup, or, without one, Python and NumPy alone."""
    seed = config.get("seed", 0)
    setup = OmegaConf.select(config, "framework.setup")
    if not setup:
        random.seed(seed)
        np.random.seed(seed % 2**32)
        return
    threads = os.environ.get(THREADS_VARIABLE)
    locate("framework.setup", setup)(
        seed=seed,
        deterministic=config.get("deterministic", False),
        threads=int(threads) if threads else None,
        debug=config.get("debug", False),
    )


def _is_out_of_memory(error: Exception) -> bool:
    named = {kind.__name__ for kind in type(error).__mro__}
    if named & {"MemoryError", "OutOfMemoryError", "ResourceExhaustedError"}:
        return True
    # PyTorch's CPU allocator raises a RuntimeError, a fork an OSError.
    return getattr(error, "errno", None) == errno.ENOMEM or "can't allocate memory" in str(error)


@contextlib.contextmanager
def _polite_signals(run: Run) -> Iterator[None]:
    """Has SIGTERM and SIGUSR1 raise the stop flag, unless this process has a use for them."""
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the driver, which decides
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, lambda *_: run.stop("preempted"))
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, signal.SIG_DFL)
