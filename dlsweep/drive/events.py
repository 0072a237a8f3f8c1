"""Progress as lines of JSON, for scripts and agents: ``hydra.sweeper.progress=json``.

docs/automation.md describes the events. Standard output has nothing else: whatever another part of
the process, or a process that it starts, prints there goes to standard error.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from dlsweep.drive.progress import Counts, Level, View
from dlsweep.folders.rundir import FAILURES, UNFINISHED, Record, Result, RunDir
from dlsweep.security.printable import encodable, printable
from dlsweep.security.secrets import scrub


def claim_stdout() -> int:
    """Returns a descriptor of standard output, which leads to standard error from now on."""
    sys.stdout.flush()
    own = os.dup(1)
    os.dup2(2, 1)
    return own


class EventView(View):
    """Writes each event as one line of JSON.

    Args:
        objective: The objectives.
        counts: The counts of trials.
        descriptor: The file descriptor to write to.
    """

    def __init__(self, objective: Sequence[str], counts: Counts, descriptor: int) -> None:
        super().__init__(objective, counts, Console(quiet=True))
        self._descriptor = descriptor
        self._waiting: deque[bytes] = deque()
        self._is_writing = False
        self._front: dict[int, list[float]] = {}
        self._is_over = self._said_paused = False
        self._told: dict[str, set[tuple[int, float]]] = {}  # a resumed run is read from its start
        self._ended: dict[str, str] = {}

    def begin(self, folder: Path, name: str, directions: Sequence[str]) -> None:
        """Writes what runs."""
        self._write(
            "sweep_started",
            folder=str(folder),
            name=name,
            n_trials=self.counts.total,
            slots=self.counts.slots,
            objective=self.objective,
            directions=list(directions),
            trials=self._counted(),
        )

    def over(self, reason: str, missing: int = 0, error: str = "") -> None:
        """Writes how all has ended, once."""
        if not self._is_over:
            self._is_over = True
            self._write(
                "sweep_ended",
                reason=reason,
                n_trials=self.counts.total,
                trials=self._counted(),
                missing=missing,
                best=self._best(),
                error=error or None,
            )

    def logged(self, folder: RunDir, record: Record) -> None:
        """Writes a run's new record, unless it has been written by this process."""
        super().logged(folder, record)
        told, key = self._told.setdefault(folder.path.name, set()), (record.step, record.time)
        if record.metrics and key not in told:
            told.add(key)
            metrics = record.metrics
            about = {**_run(folder), "step": record.step, "metrics": metrics}
            self._write("logged", record.time, **about)

    def found_best(self, front: Mapping[int, list[float]], words: str) -> None:
        """Writes the best trials, if they have changed."""
        super().found_best(front, words)
        if front != self._front:
            self._front = dict(front)
            self._write("best", objective=self.objective, trials=self._best())

    def rejected(self, folder: RunDir, overrides: Sequence[str], reason: str) -> None:
        """Writes why a trial is not launched."""
        super().rejected(folder, overrides, reason)
        self._write(
            "trial_rejected",
            **_run(folder),
            overrides=list(overrides),
            reason=reason,
            trials=self._counted(),
            n_trials=self.counts.total,
        )

    def tick(self) -> None:
        """Writes whether the study is paused, if that has changed."""
        if self.is_paused != self._said_paused:
            self._said_paused = self.is_paused
            self._write("sweep_paused" if self.is_paused else "sweep_resumed")

    def print_dashboards(self) -> None:
        """Writes the commands that open the trackers' dashboards."""
        for tracker, command in self.dashboards.items():
            self._write("dashboard", tracker=tracker, command=command)

    def say(self, text: str, level: Level = "info") -> None:
        """Writes a sentence and its level."""
        if text:
            self._write("message", level=level, text=text)

    def _run(self, folder: RunDir, overrides: Sequence[str], what: str, attempt: int) -> None:
        super()._run(folder, overrides, what, attempt)
        about = {**_run(folder), "overrides": list(overrides), "attempt": attempt}
        if what == "resumed":
            about["after"] = self._ended.pop(folder.path.name, None) or _status(folder)
        self._write(f"trial_{what}", **about)

    def _end(self, folder: RunDir, result: Result, seconds: float) -> None:
        if result.status in UNFINISHED:
            self._ended[folder.path.name] = result.status
        else:
            self._told.pop(folder.path.name, None)
        self._write(
            "trial_ended",
            **_run(folder),
            status=result.status,
            reason=result.reason,
            metrics=result.metrics,
            seconds=round(seconds, 3),
            log=folder.log_tail() if result.status in FAILURES else None,
            trials=self._counted(),
            n_trials=self.counts.total,
            seconds_left=self.counts.time_left(),
        )

    def _counted(self) -> dict[str, int]:
        counts = self.counts
        return {
            "completed": counts.completed,
            "pruned": counts.pruned,
            "stopped": counts.stopped,
            "rejected": counts.rejected,
            "failed": counts.failed,
        }

    def _best(self) -> list[dict[str, Any]]:
        return [{"trial": number, "values": values} for number, values in self._front.items()]

    def _write(self, event: str, at: float | None = None, **fields: Any) -> None:
        moment = datetime.now(UTC) if at is None else _moment(at)
        stamp = moment and moment.isoformat(timespec="milliseconds")
        line = json.dumps({"event": event, "time": stamp, **_plain(fields)}, allow_nan=False)
        self._waiting.append(line.encode() + b"\n")
        if not self._is_writing:  # else a signal has come in the middle of a line
            self._is_writing = True
            try:
                while self._waiting:
                    _write_all(self._descriptor, self._waiting.popleft())
            except BrokenPipeError:  # nobody reads; the console ends then, too
                raise SystemExit(1) from None
            finally:
                self._is_writing = False


def _run(folder: RunDir) -> dict[str, Any]:
    """Returns what tells a run: its number, null for a single run, and its folder."""
    name = folder.path.name
    number = int(name) if name.isascii() and name.isdigit() else None
    return {"trial": number, "folder": str(folder.path)}


def _status(folder: RunDir) -> str | None:
    result = folder.result()
    return result.status if result else None


def _plain(value: Any) -> Any:
    """Returns a value as JSON has it: NaN and infinity are null, and texts can be printed."""
    if isinstance(value, str):
        return printable(encodable(scrub(value)))
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {printable(encodable(str(key))): _plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return value


def _moment(seconds: float) -> datetime | None:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):  # of a record that anybody may have written
        return None


def _write_all(descriptor: int, line: bytes) -> None:
    while line:
        line = line[os.write(descriptor, line) :]
