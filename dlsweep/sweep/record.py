"""Writes ``study.json``: what the mirror, ``report`` and other verbs know of a sweep."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from dlsweep.folders.studydir import StudyDir
from dlsweep.run.keeping import Keep
from dlsweep.security import addresses, secrets
from dlsweep.sweep.app import App
from dlsweep.sweep.settings import SweepSettings
from dlsweep.sweep.study import Study

#: Keys that ``study.json`` gains at a study's end: the time, the best trial, the report's file. The
#: last one is written after the results.
_END = ("finished", "best", "report")


class StudyRecord:
    """The record of a study.

    Args:
        app: The app whose runs are launched.
        folder: The study folder.
        study: The study.
        settings: The sweep's settings.

    Attributes:
        keep: The policy for checkpoints in effect.
        total: The number of trials in all.
        slots: The number of slots.
        code: The snapshot of the user's code that trials import from.
    """

    def __init__(self, app: App, folder: StudyDir, study: Study, settings: SweepSettings) -> None:
        self._app = app
        self._folder = folder
        self._study = study
        self._settings = settings
        self.keep: Keep = "best"
        self.total = settings.n_trials
        self.slots = 1
        self.code: Path | None = None

    def read(self) -> dict[str, Any]:
        """Reads ``study.json``; empty if there is none."""
        return self._folder.info() if self._folder.info_file.exists() else {}

    def write(self, **more: Any) -> None:
        """Writes ``study.json``, with further keys."""
        earlier = self.read()
        settings = self._study.settings
        record = {
            "id": self._folder.id,
            "name": settings.name,
            "storage": secrets.recorded(self._app.config.hydra.sweeper, "storage")
            or settings.storage,
            "objective": settings.objective,
            "directions": settings.directions,
            "space": self._study.space.record(),
            "created": earlier.get("created") or time.time(),
            "n_trials": self.total,
            **{key: earlier[key] for key in ("extended",) if key in earlier},
            "exhaustive": self._settings.exhaustive,
            "slots": self.slots,
            "keep": str(self.keep),
            "command": ["python", *self._app.command, *self._app.alone],
            "tracking": self._settings.tracking,
            "code": self.code and self.code.name,
            **more,
        }
        addresses.remember(record, self._folder.path)
        self._folder.write_info(record)

    @property
    def is_of_other_code(self) -> bool:
        """Whether the user's code has changed since the study was last recorded."""
        code = self.code and self.code.name
        return bool(self.read().get("code", code) != code)

    def earlier_end(self) -> dict[str, Any]:
        """Returns what an earlier driver recorded at the study's end, if it came that far."""
        earlier = self.read()
        end = {key: earlier[key] for key in _END if key in earlier}
        return end if end.keys() == set(_END) else {}

    def present_end(self) -> dict[str, Any]:
        """Returns the study's end as of now, without the report, if all trials are finished."""
        is_complete = self.total is not None and self._study.finished >= self.total
        if not (self._study.is_exhausted or is_complete):
            return {}
        return {"finished": time.time(), "best": self._best()}

    def _best(self) -> dict[str, Any] | None:
        for number, values in sorted(self._study.best.items()):
            params = self._folder.trial(number).info().params
            return {"number": number, "value": values[0], "params": params}
        return None
