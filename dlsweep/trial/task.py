"""One trial in its own process: seed, build, train, write the result.

A trial reads and writes its run folder. It knows neither Optuna nor any tracker. In the composed
config, ``training._target_`` is a Trainer class or a function ``train(run, cfg) -> metrics``.
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
import numpy.ma  # numpy.unique would import it in each trial
from omegaconf import DictConfig, OmegaConf

from dlsweep.errors import ConfigError, DeviceError, Diverged, DlsweepError, is_disk_full
from dlsweep.folders.lineage import lineage_of
from dlsweep.folders.rundir import (
    COMPLETED,
    DISK_FULL,
    DISK_FULL_CODE,
    FAILURES,
    Result,
    RunDir,
    Status,
    first_nonfinite,
)
from dlsweep.machine.devices import THREADS_VARIABLE, node_count
from dlsweep.run.channel import RUN_VARIABLE, Channel
from dlsweep.run.nodes import node_number
from dlsweep.run.ranks import HelpingProcesses, Processes, Ranks
from dlsweep.run.run import Run
from dlsweep.security.secrets import Scrubbed, scrub
from dlsweep.trainers.base import Trainer
from dlsweep.trial.peak_memory import peak_memory
from dlsweep.trial.signature import build, is_trainer, locate
from dlsweep.trial.system_metrics import sampled

#: The outcome of a run: status, reason and metrics.
Outcome: TypeAlias = tuple[Status, str, dict[str, float]]


def main() -> int:
    """Trains the run whose folder is in the environment; returns the exit code."""
    if node_number():
        return _help()
    try:
        with Run.open(Path(os.environ[RUN_VARIABLE]), Channel.inherited()) as run, _scrubbed(run):
            return execute(run, train, _process_count(run.config))
    except OSError as error:
        if not is_disk_full(error):
            raise
        return DISK_FULL_CODE


def _help() -> int:
    """Trains with the ranks of this node what the trial's first node trains, as long as it does."""
    run = Run(RunDir(os.environ[RUN_VARIABLE]))
    processes, nodes = _process_count(run.config), node_count()
    work = functools.partial(_as_rank, run, train)
    with (
        _scrubbed(run),
        HelpingProcesses(processes, work, run.dir.ranks, nodes, run.attempt.number) as helping,
    ):
        helping.serve(_is_failure)
    return 0


def execute(run: Run, work: Callable[[Run], Any], processes: int = 1) -> int:
    """Runs a training function and writes the result.

    Args:
        run: The open run.
        work: Trains; returns metrics by name, or the value (or values) of the objective.
        processes: The number of processes that train together.

    Returns:
        1 if it failed, else 0.
    """
    started = time.time()
    _log_hyperparameters(run)
    with _stop_on_signals(run):
        attempt = _attempt if processes == 1 else functools.partial(_attempt_together, processes)
        status, reason, metrics = attempt(run, work)
    reason = scrub(reason, run.dir.config_file.read_text())
    run.attempt.check()
    memory = peak_memory(run.dir)
    run.dir.write_result(Result(status, reason, metrics, started, time.time(), run.seconds, memory))
    return int(status in FAILURES)


def _log_hyperparameters(run: Run) -> None:
    """Logs the numbers among the parameters where population based training has set them."""
    if not (lineage := lineage_of(run.dir)):
        return
    found = run.checkpoints.latest()
    if found and not found.is_inherited:
        return
    numbers = {
        f"hparams/{key}": float(value)
        for key, value in lineage[-1].params.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    run.log(numbers, found.step if found else 0)


@contextlib.contextmanager
def _scrubbed(run: Run) -> Iterator[None]:
    """Removes secrets from the log."""
    config = run.dir.config_file.read_text()
    with (
        contextlib.redirect_stdout(Scrubbed(sys.stdout, config)),
        contextlib.redirect_stderr(Scrubbed(sys.stderr, config)),
    ):
        yield


def _attempt_together(processes: int, run: Run, work: Callable[[Run], Any]) -> Outcome:
    as_rank = functools.partial(_as_rank, run, work)
    try:
        together = Processes(processes, as_rank, run.dir.ranks, node_count(), run.attempt.number)
    except DeviceError as error:
        print(error, file=sys.stderr)
        return "crashed", str(error), {}
    with together, _sampled(run):
        status, reason, metrics = together.outcome(_is_failure)
        return status, reason, metrics


def _as_rank(run: Run, work: Callable[[Run], Any], ranks: Ranks) -> Outcome:
    run.join(ranks)
    return _attempt(run, work)


def _is_failure(outcome: Any) -> bool:
    return outcome[0] in FAILURES


def _attempt(run: Run, work: Callable[[Run], Any]) -> Outcome:
    try:
        metrics = _as_metrics(run, _settled(run, work))
        status = _status(run.stop_reason)
        if status not in COMPLETED:
            return status, "", metrics
        run.require(metrics)
        objectives = run.info.objective if metrics else []
        if name := first_nonfinite({key: metrics[key] for key in objectives}):
            return "diverged", f"{name} is {metrics[name]}", metrics
        return status, "", metrics
    except Diverged as error:
        return "diverged", str(error), {}
    except DlsweepError as error:
        print(error, file=sys.stderr)
        return "crashed", str(error), {}
    except Exception as error:  # noqa: BLE001 - whatever user code raises is the trial's end
        if _names(error) & {"TrialPruned"}:  # of Optuna, which a trial does not import
            return "pruned", "", run.last_metrics()
        if is_disk_full(error):
            return "interrupted", DISK_FULL, {}
        traceback.print_exc()
        reason = f"{type(error).__name__}: {error}"
        return ("out_of_memory" if _is_out_of_memory(error) else "crashed"), reason, {}
    except (SystemExit, KeyboardInterrupt, GeneratorExit) as error:  # raised by user code
        traceback.print_exc()
        return "crashed", f"{type(error).__name__}: {error}".removesuffix(": "), {}


def _settled(run: Run, work: Callable[[Run], Any]) -> Any:
    """Calls the training function; its checkpoints are published afterwards, however it ends."""
    try:
        return work(run)
    finally:
        run.checkpoints.settle()


def _status(stop_reason: str | None) -> Status:
    """Returns the status of a run that ended without an error, by its stop reason."""
    named: tuple[Status, ...] = (
        "pruned",
        "paused",
        "preempted",
        "timed_out",
        "stopped",
        "stopped_early",
    )
    otherwise: Status = "interrupted" if stop_reason else "completed"
    return next((status for status in named if status == stop_reason), otherwise)


def train(run: Run) -> Any:
    """Trains a run by its config; returns what its trainer or function returns."""
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
    """Returns the number of processes that train together."""
    with contextlib.suppress(Exception):  # the training will raise it again
        target = locate("training", config.training["_target_"])
        if is_trainer(target):
            return int(target.process_count(config.training))
    return 1


def _as_metrics(run: Run, returned: Any) -> dict[str, float]:
    """Converts what the training returned to metrics by name."""
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
        f"{', '.join(run.info.objective) or 'no objective'}, or nothing if everything was logged."
    )


def _seed(config: DictConfig) -> None:
    """Seeds this process: by the framework's setup or, without one, only Python and NumPy."""
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


def _names(error: Exception) -> set[str]:
    """Returns the names of an exception's class and its base classes."""
    return {kind.__name__ for kind in type(error).__mro__}


def _is_out_of_memory(error: Exception) -> bool:
    if _names(error) & {"MemoryError", "OutOfMemoryError", "ResourceExhaustedError"}:
        return True
    # PyTorch's CPU allocator raises a RuntimeError, a failed fork an OSError.
    return getattr(error, "errno", None) == errno.ENOMEM or "can't allocate memory" in str(error)


@contextlib.contextmanager
def _stop_on_signals(run: Run) -> Iterator[None]:
    """Makes SIGTERM and SIGUSR1 set the stop flag, unless this process handles SIGTERM itself."""
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
