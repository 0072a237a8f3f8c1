"""Progress output: a live table on a terminal, plain lines in a file or a pipe."""

from __future__ import annotations

import contextlib
import math
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from dlsweep.folders.rundir import COMPLETED, FAILURES, Record, Result, RunDir
from dlsweep.security.printable import printable

#: Seconds between two refreshes of the live table.
_REDRAW = 0.25
#: The most columns of a terminal that has no room for a long progress bar.
_NARROW = 100
Level = Literal["info", "warning"]
_BARS = "▁▂▃▄▅▆▇█"
_STYLES = {
    "completed": "green",
    "stopped_early": "green",
    "pruned": "yellow",
    "stopped": "yellow",
    "rejected": "yellow",
    "interrupted": "blue",
    "preempted": "blue",
    "paused": "blue",
}


@dataclass
class Shown:
    """The state of a running run, as it is shown."""

    name: str
    overrides: list[str]
    began: float = field(default_factory=time.monotonic)
    step: int | None = None
    values: list[float] = field(default_factory=list)
    other: dict[str, float] = field(default_factory=dict)


@dataclass
class Counts:
    """Counts of trials: in all, and by status."""

    total: int | None = None
    completed: int = 0
    pruned: int = 0
    stopped: int = 0
    rejected: int = 0
    failed: int = 0
    slots: int = 1
    began: float = field(default_factory=time.monotonic)
    begun_with: int = 0

    @property
    def done(self) -> int:
        """The number of finished runs."""
        return self.completed + self.pruned + self.stopped + self.rejected + self.failed

    def add(self, status: str) -> None:
        """Counts a run that has ended; one that will be resumed counts nowhere."""
        self.completed += status in COMPLETED
        self.pruned += status == "pruned"
        self.stopped += status == "stopped"
        self.rejected += status == "rejected"
        self.failed += status in FAILURES

    def time_left(self) -> float | None:
        """Estimated seconds until the end, or None while there is no estimate."""
        paced = self.done - self.begun_with
        if not self.total or paced <= 0:
            return None
        return (time.monotonic() - self.began) / paced * (self.total - self.done)


class View:
    """Prints one plain line for each event."""

    def __init__(self, objective: Sequence[str], counts: Counts, console: Console) -> None:
        self.objective = list(objective)
        self.counts = counts
        self.console = console
        self.best = ""
        self.is_paused = False
        self.waits_for = ""
        self.dashboards: dict[str, str] = {}
        self.running: dict[str, Shown] = {}

    def __enter__(self) -> View:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def begin(self, folder: Path, name: str, directions: Sequence[str]) -> None:
        """Says what runs; a person sees that anyway."""

    def over(self, reason: str, missing: int = 0, error: str = "") -> None:
        """Says why all has ended; a person has read that by now.

        Args:
            reason: One word, such as ``finished``.
            missing: The number of trials that are still to run.
            error: What went wrong.
        """

    def started(
        self, folder: RunDir, overrides: Sequence[str], again: bool = False, attempt: int = 1
    ) -> None:
        """Prints that a run was launched."""
        self._run(folder, overrides, "resumed" if again else "started", attempt)

    def found(self, folder: RunDir, overrides: Sequence[str], attempt: int = 1) -> None:
        """Prints that there is a running run."""
        self._run(folder, overrides, "running", attempt)

    def found_best(self, front: Mapping[int, list[float]], words: str) -> None:
        """Stores the best trials so far, by number, and what to show of them."""
        del front
        self.best = words

    def logged(self, folder: RunDir, record: Record) -> None:
        """Stores a run's new record, for the live table."""
        shown = self.running.get(folder.path.name)
        if shown is None:
            return
        shown.step = record.step
        for name, value in record.metrics.items():
            if self.objective and name == self.objective[0]:
                shown.values.append(value)
            else:
                shown.other[name] = value

    def ended(self, folder: RunDir, result: Result) -> None:
        """Prints that a run has ended."""
        shown = self.running.pop(folder.path.name)
        self.counts.add(result.status)
        self._end(folder, result, time.monotonic() - shown.began)

    def rejected(self, folder: RunDir, overrides: Sequence[str], reason: str) -> None:
        """Prints why a trial is not launched."""
        del overrides
        self.counts.add("rejected")
        self._event(f"{self._share()}{folder.path.name} rejected: {reason}", _STYLES["rejected"])

    def tick(self) -> None:
        """Refreshes the view; plain lines need no refresh."""

    def print_dashboards(self) -> None:
        """Prints the commands that open the trackers' dashboards."""
        for tracker, command in self.dashboards.items():
            self.say(f"{tracker + ':':<13}{command}")

    def say(self, text: str, level: Level = "info") -> None:
        """Prints a sentence; scripts read its level."""
        del level
        if text:
            self.console.print(printable(text), soft_wrap=True)

    def _run(self, folder: RunDir, overrides: Sequence[str], what: str, attempt: int) -> None:
        del attempt
        shown = Shown(folder.path.name, list(overrides))
        self.running[shown.name] = shown
        verb = {"resumed": "goes on", "running": "is running"}.get(what, what)
        self._event(f"{shown.name} {verb}  {' '.join(overrides)}")

    def _end(self, folder: RunDir, result: Result, seconds: float) -> None:
        values = "  ".join(
            f"{name}={result.metrics[name]:.6g}"
            for name in self.objective
            if name in result.metrics
        )
        self._event(
            f"{self._share()}{folder.path.name} {result.status} in {seconds:.1f} s  {values}",
            _STYLES.get(result.status, "red"),
        )
        if result.status in FAILURES:
            tail = folder.log_tail()
            if result.reason not in tail:
                self.say(f"  {result.reason}")
            self.say("\n".join(f"  | {line}" for line in tail.splitlines()))

    def _share(self) -> str:
        counts = self.counts
        return f"[{counts.done}/{counts.total or '?'}] " if counts.total != 1 else ""

    def _event(self, text: str, style: str = "") -> None:
        stamp = time.strftime("%H:%M:%S")
        line = printable(f"{stamp} {text}".rstrip())
        self.console.print(line, style=style, soft_wrap=True)


class LiveView(View):
    """Shows the running runs as a table that refreshes a few times a second."""

    def __enter__(self) -> View:
        self._live = Live(
            console=self.console, get_renderable=self.drawing, auto_refresh=False, transient=True
        )
        self._live.start()
        self._drawn = 0.0
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def tick(self) -> None:
        """Refreshes the table a few times a second. A thread would garble the printed lines."""
        if time.monotonic() - self._drawn > _REDRAW:
            self._drawn = time.monotonic()
            self._live.refresh()

    def _event(self, text: str, style: str = "") -> None:
        if style:  # the table shows starts already
            super()._event(text, style)

    def drawing(self) -> RenderableType:
        """Returns the progress and the table of what runs."""
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", expand=True)
        first = self.objective[0] if self.objective else "objective"
        name = "run" if self.counts.total == 1 else "trial"
        for title, width in ((name, 4), ("step", 4), (first, 8), ("trend", 12), ("time", 6)):
            table.add_column(title, no_wrap=True, min_width=max(width, len(title)))
        table.add_column("overrides", no_wrap=True, overflow="ellipsis", ratio=1)
        for shown in list(self.running.values()):
            value = f"{shown.values[-1]:.5g}" if shown.values else "-"
            table.add_row(
                shown.name,
                "-" if shown.step is None else str(shown.step),
                value,
                Text(sparkline(shown.values), style="cyan"),
                f"{time.monotonic() - shown.began:.0f} s",
                Text(" ".join(map(brief, shown.overrides)), style="dim"),
            )
        return Group(self._headline(), table)

    def _headline(self) -> RenderableType:
        """Returns the progress in one line, what matters most first: a terminal cuts the rest."""
        counts = self.counts
        left = None if self.is_paused else counts.time_left()
        of = "run" if counts.total == 1 else "trials"
        parts = [
            "paused" if self.is_paused else "",
            f"{counts.done}/{counts.total or '?'} {of}",
            self.waits_for,
            self.best and f"best {self.best}",
            f"{duration(left)} left" if left is not None else "",
            f"{counts.failed} failed" if counts.failed else "",
            f"{counts.pruned} pruned" if counts.pruned else "",
            f"{counts.stopped} stopped" if counts.stopped else "",
            f"{counts.rejected} rejected" if counts.rejected else "",
            f"{len(self.running)}/{counts.slots} slots",
        ]
        line = Table.grid(padding=(0, 1))
        width = 24 if self.console.width > _NARROW else 8
        bar = ProgressBar(total=counts.total or 1, completed=counts.done, width=width)
        words = Text("  ·  ".join(part for part in parts if part), no_wrap=True)
        line.add_row(bar, words)
        return line


def make_console() -> Console:
    """Returns a console on standard output that does not wrap lines in a file or a pipe."""
    width = None if sys.stdout.isatty() else 200
    return Console(file=sys.stdout, width=width, markup=False, highlight=False)


def sparkline(values: Sequence[float], width: int = 12) -> str:
    """Draws the last values as a row of bars."""
    last = [value for value in values[-width:] if math.isfinite(value)]
    if not last:
        return ""
    low, high = min(last), max(last)
    span = (high - low) or 1.0
    return "".join(_BARS[min(7, int((value - low) / span * 8))] for value in last)


def brief(override: str) -> str:
    """Shortens an override: the last part of its key, few digits."""
    key, _, value = override.partition("=")
    with contextlib.suppress(ValueError):
        value = f"{float(value):.4g}"
    return f"{re.split(r'[./]', key)[-1]}={value}"


def size(count: float) -> str:
    """Returns a number of bytes in words, as ``3.4 MB``."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.4g} TB"


def duration(seconds: float) -> str:
    """Returns a duration in words, as ``3 min 20 s``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
