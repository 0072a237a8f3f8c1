"""The driver of runs: starts them, watches their folders, passes on what it sees.

A sweep and a single run share it. Beside it, in a process of its own, the mirror tells the
trackers, so that a slow tracker costs training nothing.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from omegaconf import OmegaConf

from dlsweep.errors import TrackerError
from dlsweep.launchers.base import Job, Launcher
from dlsweep.progress import View
from dlsweep.rundir import Record, Result, RunDir
from dlsweep.signature import build
from dlsweep.trackers.base import Tracker

#: How often, in seconds, the driver looks around while nothing rings.
_TURN = 0.25


@dataclass
class Active:
    """A run under way."""

    folder: RunDir
    judge: Callable[[list[Record]], bool]
    offset: int = 0
    unjudged: list[Record] = field(default_factory=list)
    job: Job | None = None


class Driver:
    """Launches runs into free slots and sees them through.

    Args:
        launcher: Where they run.
        folder: The study's folder, or that of the single run; what the mirror follows.
        view: Who is told what happens.
        mirrored: Whether any tracker was asked for.
    """

    def __init__(self, launcher: Launcher, folder: Path, view: View, mirrored: bool) -> None:
        self.launcher = launcher
        self.view = view
        self.stopping = ""
        self._mirror = Mirror(folder, view) if mirrored else None
        self._active: dict[Path, Active] = {}
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> Driver:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._handlers[number] = signal.signal(number, self._on_signal)
        self.launcher.start(self._judge)
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
        """How many runs can be launched now."""
        return 0 if self.stopping else self.launcher.free_slots

    @property
    def running(self) -> int:
        """How many runs are under way."""
        return len(self._active)

    def start_mirror(self) -> None:
        """Starts the mirror, unless it has been; it waits for the first run."""
        if self._mirror:
            self._mirror.start()

    def launch(
        self,
        argv: Sequence[str],
        folder: RunDir,
        judge: Callable[[list[Record]], bool] = lambda _: False,
    ) -> None:
        """Starts a run.

        Args:
            argv: What a shell would type after ``python``.
            folder: Its run folder, made and cleared.
            judge: Told of each new record once; returns whether to prune.
        """
        active = Active(folder, judge)
        self._active[folder.path] = active
        active.job = self.launcher.submit(argv, folder)
        self.start_mirror()

    def turn(self) -> Iterator[tuple[RunDir, Result]]:
        """Waits a moment, then yields each run that has ended with its result."""
        self.launcher.wait(_TURN)
        self.view.tick()
        if self._mirror:
            self._mirror.check()
        for active in list(self._active.values()):
            code = active.job.poll() if active.job else None
            self._read(active)
            if code is not None:
                self._judge(active.folder)
                del self._active[active.folder.path]
                yield active.folder, active.folder.settle(code)

    def drain(self) -> None:
        """Says that all runs are over, so that the trackers are told the rest meanwhile."""
        if self._mirror:
            self._mirror.hang_up()

    def stop(self, reason: str) -> None:
        """Starts nothing more, and asks what runs to save and end."""
        self.stopping = reason
        for active in list(self._active.values()):
            active.folder.request_stop("interrupted")

    def _read(self, active: Active) -> None:
        for record, offset in active.folder.records(active.offset):
            active.offset = offset
            active.unjudged.append(record)
            self.view.logged(active.folder, record)

    def _judge(self, folder: RunDir) -> str | None:
        active = self._active[folder.path]
        self._read(active)
        records, active.unjudged = active.unjudged, []
        if active.judge(records):
            return "pruned"
        return "interrupted" if self.stopping else None

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        if not self.stopping:
            self.view.say("Stopping: the running trials save and end; once more to kill them.")
            self.stop(signal.Signals(number).name)
            return
        for active in self._active.values():
            if active.job:
                active.job.kill()


def recorded_tracking(node: Any) -> dict[str, Any]:
    """A tracking config as run folders record it: resolved, but for what the environment holds.

    A value from the environment may be a secret: it stays a reference, which the mirror resolves.
    """
    if not OmegaConf.is_config(node):
        return dict(node or {})
    recorded: dict[str, Any] = {}
    for name in node:
        raw = node._get_node(name)
        if OmegaConf.is_dict(raw):
            recorded[name] = recorded_tracking(raw)
        elif raw._is_interpolation() and "oc.env" in str(raw._value()):
            recorded[name] = raw._value()
        else:
            value = node[name]
            recorded[name] = _absolute(value) if isinstance(value, str) else value
    return recorded


def _absolute(text: str) -> str:
    scheme = "sqlite:///"
    is_relative = text.startswith(scheme) and not text.startswith(scheme + "/")
    return scheme + os.path.abspath(text.removeprefix(scheme)) if is_relative else text


def check_trackers(tracking: Mapping[str, Any]) -> None:
    """Sees that every tracker asked for can work, as far as a quick look tells.

    Raises:
        TrackerError: If one cannot, with the reason.
        MissingExtraError: If its package is not installed.
    """
    for name, options in tracking.items():
        tracker: Tracker = build(f"tracking.{name}", options)
        tracker.check()


class Mirror:
    """The mirror's process: ``python -m dlsweep sync <folder> --follow``."""

    def __init__(self, folder: Path, view: View) -> None:
        self._folder = folder
        self._view = view
        self._failure = ""
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it, unless it has been."""
        if self._process:
            return
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "dlsweep", "sync", str(self._folder), "--follow"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def check(self) -> None:
        """Raises TrackerError if a tracker could not be started."""
        if self._failure:
            raise TrackerError(self._failure)

    def hang_up(self) -> None:
        """Tells it that nothing more will happen; it brings the trackers up to date and ends."""
        if self._process and self._process.stdin:
            self._process.stdin.close()

    def finish(self, wait: bool) -> None:
        """Lets it tell the trackers the rest, or kills it."""
        if self._process is None:
            return
        self.hang_up()
        if not wait:
            self._process.kill()
        started = time.monotonic()
        while self._process.poll() is None:
            time.sleep(0.02)
            if time.monotonic() - started > 2:
                self._view.say("Bringing the trackers up to date …")
                started = float("inf")
        self._listener.join()

    def _listen(self) -> None:
        assert self._process
        assert self._process.stdout
        for line in self._process.stdout:
            message = json.loads(line)
            if "error" in message:
                self._failure = f"tracking.{message['tracker']}: {message['error']}"
            elif message.get("view"):
                self._view.dashboards[message["tracker"]] = message["view"]
