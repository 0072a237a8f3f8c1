"""The attempts of a run, and the fence between them.

A run that is started again, after a crash or on another node, begins a new attempt. A process of an
earlier attempt may still live: behind a cut network, or stopped and continued. The driver closes
the fence before it starts the new one: it writes the attempt's number and the checkpoints that the
attempt may start from to ``attempt.json``. From then on an earlier attempt cannot publish a
checkpoint or write a result, and the new attempt opens a new record file, so that late records go
nowhere.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlsweep.errors import StudyError
from dlsweep.folders.reading import read_json
from dlsweep.folders.rundir import RunDir, write_atomically

#: The environment variable with the number of a trial's attempt.
ATTEMPT_VARIABLE = "DLSWEEP_ATTEMPT"
_FILE = "attempt.json"


@dataclass(frozen=True)
class Attempt:
    """One attempt of a run.

    Attributes:
        file: The run's ``attempt.json``.
        number: 1 for the first attempt; 0 if nobody counts them.
    """

    file: Path
    number: int

    @classmethod
    def current(cls, folder: RunDir) -> Attempt:
        """Returns the attempt that has begun last."""
        file = folder.path / _FILE
        return cls(file, _read(file)["attempt"])

    @classmethod
    def of_this_process(cls, folder: RunDir) -> Attempt:
        """Returns the attempt that this process was started for; without a driver the current."""
        number = os.environ.get(ATTEMPT_VARIABLE)
        return cls(folder.path / _FILE, int(number)) if number else cls.current(folder)

    @classmethod
    def begin(cls, folder: RunDir) -> Attempt:
        """Begins the next attempt; earlier ones can write no more. Only the driver may call it."""
        attempt = cls(folder.path / _FILE, cls.current(folder).number + 1)
        names = (path.name for path in folder.checkpoints.glob("step-*"))
        attempt._write(sorted(names))
        return attempt

    @property
    def has_advanced(self) -> bool:
        """Whether there is a newer checkpoint than those that the attempt could start from."""
        names = [path.name for path in self.file.parent.glob("checkpoints/step-*")]
        return _newest(names) > _newest(_read(self.file)["checkpoints"])

    @property
    def is_current(self) -> bool:
        """Whether no later attempt has begun."""
        return _read(self.file)["attempt"] in (0, self.number)

    def check(self) -> None:
        """Checks that no later attempt has begun.

        Raises:
            StudyError: If one has.
        """
        if not self.is_current:
            raise StudyError(
                f"{self.file.parent}: attempt {self.number} was replaced by a later attempt, "
                "which trains this run now. This process writes no more."
            )

    def adopts(self, checkpoint: str, attempt: int) -> bool:
        """Returns whether this attempt may start from a checkpoint.

        Args:
            checkpoint: Its name.
            attempt: The attempt that has saved it.
        """
        found = _read(self.file)
        if not found["attempt"]:  # as in a copy of the run that a tracker serves
            return True
        return attempt == found["attempt"] or checkpoint in found["checkpoints"]

    def adopt(self, checkpoint: str) -> None:
        """Adds a checkpoint that an earlier attempt had complete but not published."""
        self.check()
        if self.file.exists():
            self._write(sorted({*_read(self.file)["checkpoints"], checkpoint}))

    def _write(self, checkpoints: list[str]) -> None:
        record = {"attempt": self.number, "checkpoints": checkpoints}
        write_atomically(self.file, json.dumps(record))


def _newest(checkpoints: Sequence[str]) -> str:
    """Returns the name of the last step's checkpoint, whichever time the step was saved."""
    return max((name.rstrip("+") for name in checkpoints), default="")


def _read(file: Path) -> dict[str, Any]:
    try:
        found = read_json(file)
        return {"attempt": int(found["attempt"]), "checkpoints": list(found["checkpoints"])}
    except FileNotFoundError:  # a folder of an earlier version, or one without a driver
        return {"attempt": 0, "checkpoints": []}
    except (TypeError, KeyError, ValueError) as error:
        raise StudyError(f"{file} is damaged: {error!r}") from None
