"""The timeline of a study: when each trial ran, and in which slot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dlsweep.drive.progress import duration
from dlsweep.folders.rundir import Result, RunDir
from dlsweep.results.report.numbers import finite


@dataclass(frozen=True)
class Span:
    """A time in which a trial ran; wall times in seconds."""

    row: int
    start: float
    end: float
    status: str


def spans(row: int, run: RunDir, status: str, created: Any, logged: Sequence[float]) -> list[Span]:
    """Returns when a trial ran, as far as its folder tells.

    Args:
        row: The trial's row in the page's table.
        run: Its run folder.
        status: How it ended, or a word for a trial that has not.
        created: The wall time of its first launch.
        logged: The wall times of its records.
    """
    launched = finite(created)
    found: list[Span] = []
    for attempt in _attempts(run):
        end = finite(attempt.ended) or 0.0
        start = finite(attempt.started) or (launched if not found else found[-1].end)
        if start and start < end:
            found.append(Span(row, start, end, str(attempt.status)))
    # An attempt that was interrupted leaves no times but those of its records.
    ended_by = found[0].start if found else float("inf")
    early = [time for time in logged if time < ended_by]
    if early:
        start = min(launched or early[0], early[0])
        found.insert(0, Span(row, start, max(early), "interrupted" if found else status))
    return found


def _attempts(run: RunDir) -> list[Result]:
    """Returns the results of all attempts; one that is to be retried is in two files."""
    found: dict[float | None, Result] = {}
    for attempt in (*run.attempts(), run.result()):
        if attempt:
            found.setdefault(finite(attempt.ended), attempt)
    return list(found.values())


def timeline(found: Sequence[Span]) -> dict[str, Any]:
    """Returns the spans in lanes, as JSON, with a sentence about idle time.

    A folder does not say which slot a trial had. Each span is put into the lane that has become
    free last, so the number of lanes is the number of trials that ran at the same time.
    """
    free: list[float] = []
    bars = []
    for span in sorted(found, key=lambda one: (one.start, one.end)):
        waiting = [lane for lane, end in enumerate(free) if end <= span.start]
        if waiting:
            lane = max(waiting, key=free.__getitem__)
        else:
            lane = len(free)
            free.append(0.0)
        free[lane] = span.end
        bars.append((lane, span))
    if not bars:
        return {"lanes": 0, "bars": [], "start": None, "text": "No trial has run yet."}
    start, end = bars[0][1].start, max(free)
    busy = sum(span.end - span.start for span in found)
    idle = 1 - busy / (len(free) * max(end - start, busy / len(free)) or 1.0)
    slots = f"{len(free)} trials" if len(free) > 1 else "One trial"
    return {
        "lanes": len(free),
        "start": start,
        "end": round(end - start, 2),
        "bars": [
            [lane, span.row, round(span.start - start, 2), round(span.end - start, 2), span.status]
            for lane, span in bars
        ],
        "text": f"{slots} at most ran at the same time, over {duration(end - start)}. "
        f"Idle in that time: {idle:.1%}.",
    }
