"""The verbs ``status`` and ``attach``: a sweep as its folder shows it, once or until it ends."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dlsweep.drive.progress import Counts, LiveView, make_console
from dlsweep.drive.views import make_view
from dlsweep.errors import StudyError
from dlsweep.folders.requests import Requests
from dlsweep.folders.studydir import StudyDir, studies_in
from dlsweep.folders.watch import Owner, Watch
from dlsweep.results.follow import Follower, Seen
from dlsweep.results.report.numbers import finite
from dlsweep.security.printable import printable

#: Seconds between two looks at a study.
_LOOK = 0.25


def status(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> int:
    """The verb ``status``: prints what each sweep does now."""
    parser.add_argument(
        "folders",
        type=Path,
        nargs="*",
        metavar="folder",
        default=[Path("outputs")],
        help="a study's folder, as outputs/mnist, or that of several studies; default: outputs",
    )
    parser.add_argument("--json", action="store_true", help="print it as JSON, for scripts")
    options = parser.parse_args(arguments)
    found = [(folder, studies_in(folder)) for folder in options.folders]
    for folder, studies in found:
        if not studies:
            StudyDir(folder).description()  # raises what is wrong
    followers = [Follower(study, Watch(study)) for _, studies in found for study in studies]
    with ThreadPoolExecutor(max_workers=32) as pool:  # a driver on another host takes a while
        alive = list(pool.map(lambda follower: follower.watch.wait(), followers))
    snapshots = [_Snapshot(one, is_alive) for one, is_alive in zip(followers, alive, strict=True)]
    if options.json:
        print(json.dumps([snapshot.record() for snapshot in snapshots], indent=1))
    else:
        for snapshot in snapshots:
            snapshot.show()
    return 0


class _Snapshot:
    """What a study does at one moment."""

    def __init__(self, follower: Follower, is_alive: bool) -> None:
        self.follower = follower
        self.owner = follower.watch.owner
        self.is_alive = is_alive
        self.view = LiveView([], Counts(), make_console())
        follower.look(is_alive)
        follower.show(self.view, is_first=True)
        self.problems: list[str] = []
        requests = Requests(follower.folder.requests)
        self.waiting = [one for one in requests.pending(self.problems.append) if _stays(one.kind)]

    @property
    def state(self) -> str:
        """The state of the driver in one word."""
        if self.is_alive:
            return "running"
        if self.owner:
            return "died"
        return "finished" if "finished" in self.follower.record else "stopped"

    def show(self) -> None:
        """Prints it."""
        console = self.view.console
        lines = [f"{self.follower.folder.path}: {self.state}{self._driver()}"]
        lines += self.problems
        if self.waiting:
            kinds = ", ".join(one.kind for one in self.waiting)
            lines.append(f"The next driver is asked to: {kinds}")
        for line in lines:
            console.print(printable(line), soft_wrap=True)
        console.print(self.view.drawing())

    def record(self) -> dict[str, Any]:
        """Returns it as plain JSON."""
        follower, owner = self.follower, self.owner
        left = self.view.counts.time_left() if self.is_alive else None
        return {
            "folder": str(follower.folder.path),
            "name": follower.record["name"],
            "state": self.state,
            "paused": self.view.is_paused,
            "driver": owner and _driver_record(owner),
            "n_trials": self.view.counts.total,
            "trials": dict(follower.states()),
            "running": [_running_record(seen) for seen in follower.running],
            "objective": follower.objective,
            "best": [
                {"trial": number, "values": [finite(value) for value in values]}
                for number, values in follower.front.items()
            ],
            "seconds_left": left,
            "requests": [one.kind for one in self.waiting],
        }

    def _driver(self) -> str:
        if self.owner is None:
            return ""
        age = max(0.0, time.time() - self.owner.heard)
        return f" ({self.owner.holder}, last heartbeat {age:.0f} s ago)"


def _stays(kind: str) -> bool:
    """Whether a request is for whichever driver comes next, and not for one driver."""
    return kind in ("enqueue", "extend")


def _driver_record(owner: Owner) -> dict[str, Any]:
    return {
        "host": owner.host,
        "pid": owner.pid,
        "since": _utc(owner.since),
        "heartbeat": _utc(owner.heard),
    }


def _running_record(seen: Seen) -> dict[str, Any]:
    metrics = seen.last.metrics if seen.last else {}
    return {
        "trial": int(seen.folder.path.name),
        "step": seen.last.step if seen.last else None,
        "metrics": {name: finite(value) for name, value in metrics.items()},
        "overrides": seen.overrides(),
    }


def _utc(seconds: float) -> str | None:
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):  # of a lease that anybody may have written
        return None


def attach(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> int:
    """The verb ``attach``: the view of a running sweep, until the sweep ends or Ctrl-C."""
    parser.add_argument("folder", type=Path, help="a study's folder, as outputs/mnist")
    parser.add_argument("--json", action="store_true", help="print each event as a line of JSON")
    options = parser.parse_args(arguments)
    folder = options.folder
    follower = Follower(StudyDir(folder), Watch(StudyDir(folder)))
    if not follower.watch.wait():
        raise StudyError(
            f"{folder} is not running. Its results:  python -m dlsweep report {folder}"
        )
    view = make_view(follower.objective, Counts(), "json" if options.json else "auto")
    try:
        with view:
            is_first = is_alive = True
            while is_alive:
                is_alive = follower.watch.is_alive() is not False
                follower.look(is_alive)
                follower.show(view, is_first)
                is_first = False
                view.tick()
                time.sleep(_LOOK)
    except KeyboardInterrupt:
        print("\nThe sweep goes on.")
        return 0
    total = follower.record.get("n_trials")
    done = f"{view.counts.done} of {total}" if total else str(view.counts.done)
    missing = max(0, (total or 0) - view.counts.done)
    if follower.watch.owner:
        died = f"{follower.watch.owner.holder} has died, {done} trials are finished."
        view.say(died, "warning")
        view.over("died", missing, died)
        return 1
    view.say(f"The sweep has ended, {done} trials are finished.")
    view.over("finished" if "finished" in follower.record else "stopped", missing)
    return 0
