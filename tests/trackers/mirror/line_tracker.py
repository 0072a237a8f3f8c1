"""A user's own tracker: a text file a run, one line a metric; it fails when it is told to."""

from __future__ import annotations

import json
from pathlib import Path

from dlsweep.errors import TrackerError
from dlsweep.trackers import Tracker
from dlsweep.trackers.base import ViewLostError


class LineTracker(Tracker):
    """Fails while ``folder/down`` exists, and for ever at the run that ``folder/refused`` names."""

    view = "cat {folder}"

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def check(self) -> None:
        if (self.folder / "down").exists():
            raise TrackerError("the lines are down")

    def log_study(self, study, info, state):
        self.check()
        state["study"] = info["name"]
        self._note(f"study {info['name']}{' finished' if 'finished' in info else ''}")

    def start(self, run, parent, state):
        self.check()
        if state and not self._file(run).exists():
            raise ViewLostError(f"{self._file(run)} is gone")
        if not state:
            self._file(run).write_text("")
            state.update(size=0, parent=parent.get("study"))

    def log(self, run, records, state):
        self.check()
        refused = self.folder / "refused"
        if refused.exists() and refused.read_text() == run.path.name:
            raise OSError(f"{run.path.name} is refused")
        with self._file(run).open("r+") as file:
            file.truncate(state["size"])
            file.seek(state["size"])
            for one in records:
                file.write("".join(f"{json.dumps([one.step, *m])}\n" for m in one.metrics.items()))
            state["size"] = file.tell()

    def finish(self, run, result, state):
        self.check()
        self._note(f"{run.path.name} {result.status} of {state['parent']}")

    def _file(self, run) -> Path:
        return self.folder / f"{run.path.name}.txt"

    def _note(self, line: str) -> None:
        with (self.folder / "notes").open("a") as file:
            file.write(f"{line}\n")
