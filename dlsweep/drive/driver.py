"""The driver: starts runs, watches their folders, and reports new records and results.

Sweeps and single runs share it. The mirror syncs trackers in a process of its own, so a slow
tracker does not slow down training.
"""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from omegaconf import OmegaConf

from dlsweep.drive.mirror import Mirror
from dlsweep.drive.progress import View
from dlsweep.errors import ConfigError
from dlsweep.folders.attempt import Attempt
from dlsweep.folders.rundir import Record, Result, RunDir
from dlsweep.launchers.base import Job, Launcher
from dlsweep.trackers.link import make_tracker

#: How often the driver polls, in seconds, while no trial sends anything.
_TURN = 0.25
#: How often a run's records are read, in seconds, if it does not say that there are new ones.
_LOOK = 1.0


@dataclass(frozen=True)
class Limits:
    """Time limits of a run, by the monotonic clock; keys of ``hydra.sweeper``.

    Attributes:
        trial_timeout: Seconds that one attempt may take.
        step_timeout: Seconds that may pass without a new record; this finds hung runs.
        grace: Seconds for a run to save and end after a stop request; then it is killed.
    """

    trial_timeout: float = math.inf
    step_timeout: float = math.inf
    grace: float = 30.0

    @classmethod
    def read(cls, options: Mapping[str, Any]) -> Limits:
        """Reads the limits from ``hydra.sweeper`` or from ``run.json``; null means no limit.

        Raises:
            ConfigError: If a limit is not a number of seconds.
        """
        names = [limit.name for limit in fields(cls)]
        given = {name: options[name] for name in names if options.get(name) is not None}
        for name, value in given.items():
            if not (isinstance(value, int | float) and value > 0):
                raise ConfigError(
                    f"hydra.sweeper.{name}: Received {value}. Expected seconds above 0."
                )
        return cls(**given)

    @property
    def bounds(self) -> bool:
        """Whether there is any limit besides the grace period."""
        return min(self.trial_timeout, self.step_timeout) < math.inf

    def record(self) -> dict[str, float]:
        """Returns the limits as ``run.json`` stores them."""
        return {name: value for name, value in asdict(self).items() if math.isfinite(value)}

    def exceeded(self, lasted: float, silent: float) -> str:
        """Returns a sentence about the exceeded limit; empty if none is exceeded."""
        if lasted > self.trial_timeout:
            return f"it took more than hydra.sweeper.trial_timeout={self.trial_timeout:g} s"
        if silent > self.step_timeout:
            return f"no record for hydra.sweeper.step_timeout={self.step_timeout:g} s"
        return ""


_NO_LIMITS = Limits()


#: Judges new records of a run: a reason to stop it, or None to continue.
Verdict = Callable[[list[Record]], str | None]


@dataclass
class Active:
    """A running run; its times are monotonic."""

    folder: RunDir
    judge: Verdict
    offset: int = 0
    unjudged: list[Record] = field(default_factory=list)
    job: Job | None = None
    began: float = field(default_factory=time.monotonic)
    heard: float = field(default_factory=time.monotonic)
    looked: float = field(default_factory=time.monotonic)
    timed_out: str = ""
    kill_at: float = math.inf
    oom_kills: int = field(default_factory=lambda: _oom_kills())


class Driver:
    """Launches runs into free slots and watches them until they end.

    Args:
        launcher: Starts the runs.
        folder: The study folder, or the folder of the single run; the mirror follows it.
        view: Shows progress.
        mirrored: Whether there is any tracker.
        limits: Time limits of a run.
        most: The number of runs at a time, if it is known.
    """

    def __init__(
        self,
        launcher: Launcher,
        folder: Path,
        view: View,
        mirrored: bool,
        limits: Limits = _NO_LIMITS,
        most: int | None = None,
    ) -> None:
        self.launcher = launcher
        launcher.most = most
        self.limits = limits
        self.view = view
        self.stopping = ""
        self._folder = folder
        self._mirror = Mirror(folder, view) if mirrored else None
        self._active: dict[Path, Active] = {}
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> Driver:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            self._handlers[number] = signal.signal(number, self._on_signal)
        if self.limits.bounds and not self.launcher.is_beside:
            self.view.say("Trials run in this process, so time limits do not apply.", "warning")
        self.launcher.start(self._judge, self._folder)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.launcher.close()
        if self._mirror:
            self._mirror.finish(wait=kind is None)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    @property
    def free_slots(self) -> int:
        """The number of runs that can be launched now."""
        return 0 if self.stopping else self.launcher.free_slots

    @property
    def running(self) -> int:
        """The number of running runs."""
        return len(self._active)

    def start_mirror(self) -> None:
        """Starts the mirror, if it is not running; the mirror waits for the first run."""
        if self._mirror:
            self._mirror.start()

    def launch(
        self,
        argv: Sequence[str],
        folder: RunDir,
        judge: Verdict = lambda _: None,
    ) -> None:
        """Starts a run.

        Args:
            argv: The arguments after ``python``.
            folder: The run folder, created and cleared.
            judge: Called once with each new record; returns why to stop: ``pruned`` or ``paused``.
        """
        Attempt.begin(folder)
        active = Active(folder, judge)
        self._active[folder.path] = active
        active.job = self.launcher.submit(argv, folder)
        self.start_mirror()

    def adopt(self, folder: RunDir, judge: Verdict = lambda _: None) -> bool:
        """Watches a run that an earlier driver has left running on a cluster, if there is one."""
        job = self.launcher.adopt(folder)
        if job:
            self._active[folder.path] = Active(folder, judge, job=job)
            os.utime(Attempt.current(folder).file)  # `status` sees by it what this driver watches
            self.start_mirror()
        return job is not None

    def turn(self, at_once: bool = False) -> Iterator[tuple[RunDir, Result]]:
        """Waits for a moment, then yields each run that has ended, with its result.

        Args:
            at_once: Whether to answer only what has been asked already, because more is to do.
        """
        self.launcher.wait(0.0 if at_once else _TURN)
        self.view.tick()
        if self._mirror:
            self._mirror.check()
        for active in list(self._active.values()):
            code = active.job.poll() if active.job else None
            if code is None:
                self._watch(active)
            else:
                self._judge(active.folder)
                del self._active[active.folder.path]
                memory_ran_out = _oom_kills() > active.oom_kills
                yield active.folder, active.folder.settle(code, memory_ran_out, active.timed_out)

    def sync_now(self) -> None:
        """Asks the mirror process to sync now."""
        if self._mirror:
            self._mirror.wake()

    def drain(self) -> None:
        """Tells the mirror that all runs have ended, so that it syncs the rest meanwhile."""
        if self._mirror:
            self._mirror.close_input()

    def stop(self, reason: str) -> None:
        """Launches no more runs, and asks the running ones to save and end."""
        self.stopping = reason
        for active in list(self._active.values()):
            if active.folder.stop_reason() is None:  # an earlier request is for good
                active.folder.request_stop("interrupted")

    def kill(self, folder: RunDir | None = None) -> None:
        """Kills the run in a folder, or else every run, with all processes that it has started."""
        for active in self._active.values():
            if active.job and (folder is None or folder.path == active.folder.path):
                active.job.kill()

    def _read(self, active: Active) -> None:
        active.looked = time.monotonic()
        for record, offset in active.folder.records(active.offset):
            active.offset = offset
            active.unjudged.append(record)
            active.heard = time.monotonic()
            self.view.logged(active.folder, record)

    def _watch(self, active: Active) -> None:
        """Asks a run that exceeded a limit to save and end, and kills it if it does not."""
        now = time.monotonic()
        if now > active.looked + _LOOK:
            self._read(active)
        if not active.timed_out and self._exceeded(active, now):
            self._read(active)
            active.timed_out = self._exceeded(active, now)
            if active.timed_out:
                active.kill_at = now + self.limits.grace
                active.folder.request_stop("timed_out")
        elif now > active.kill_at and active.job:
            active.job.kill()

    def _exceeded(self, active: Active, now: float) -> str:
        return self.limits.exceeded(now - active.began, now - active.heard)

    def _judge(self, folder: RunDir) -> str | None:
        active = self._active[folder.path]
        self._read(active)
        records, active.unjudged = active.unjudged, []
        if reason := active.judge(records):
            folder.request_stop(reason)  # kept: asked again, a pruner may differ
            return reason
        if active.timed_out:
            return "timed_out"
        return "interrupted" if self.stopping else None

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        if not self.stopping:
            self.view.say("Stopping: the running trials save and end; once more to kill them.")
            self.stop(signal.Signals(number).name)
        else:
            self.kill()


def _oom_kills() -> int:
    """Returns how many processes the kernel's OOM killer has killed; 0 if that is unknown."""
    try:
        text = Path("/proc/vmstat").read_text()
    except OSError:
        return 0
    return int(text.partition("\noom_kill ")[2].partition("\n")[0] or 0)


def recorded_tracking(node: Any) -> dict[str, Any]:
    """Returns a tracking config as run folders record it: resolved, except for ``oc.env`` values.

    A value from the environment may be a secret, so it stays a reference. The mirror resolves it.
    """
    if not OmegaConf.is_config(node):
        return dict(node or {})
    recorded: dict[str, Any] = {}
    plain = OmegaConf.to_container(node)
    assert isinstance(plain, dict)
    for name in map(str, node):
        raw = plain[name]
        if isinstance(raw, dict):
            recorded[name] = recorded_tracking(node[name])
        elif OmegaConf.is_interpolation(node, name) and "oc.env" in raw:
            recorded[name] = raw
        else:
            value = node[name]
            recorded[name] = _absolute(value) if isinstance(value, str) else value
    return recorded


def _absolute(text: str) -> str:
    scheme = "sqlite:///"
    is_relative = text.startswith(scheme) and not text.startswith(scheme + "/")
    return scheme + os.path.abspath(text.removeprefix(scheme)) if is_relative else text


def check_trackers(tracking: Mapping[str, Any]) -> None:
    """Checks that every configured tracker can work, as far as a quick check tells.

    Raises:
        TrackerError: If a tracker cannot work; contains the reason.
        MissingExtraError: If a tracker's package is not installed.
    """
    for name, options in tracking.items():
        make_tracker(name, options).check()
