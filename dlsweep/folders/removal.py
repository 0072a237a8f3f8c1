"""What was removed of an ended run's checkpoints, and how to train the run again."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict, dataclass

from dlsweep.errors import StudyError
from dlsweep.folders.reading import read_json
from dlsweep.folders.rundir import RunDir, RunInfo, write_atomically
from dlsweep.folders.studydir import StudyDir

_FILE = "removed.json"


@dataclass(frozen=True)
class Removal:
    """What was removed; written to the run folder before anything is.

    Attributes:
        keep: The policy, as ``hydra.sweeper.keep`` has it.
        last: The name of the run's last checkpoint.
        left: The name of the checkpoint whose weights stay, if any.
    """

    keep: str
    last: str
    left: str | None

    @classmethod
    def of(cls, run: RunDir) -> Removal | None:
        """Reads what was removed of a run; None if nothing was.

        Raises:
            StudyError: If the file is damaged.
        """
        file = run.path / _FILE
        try:
            return cls(**read_json(file))
        except FileNotFoundError:
            return None
        except TypeError as error:
            raise StudyError(f"{file} is damaged: {error}") from None

    def write(self, run: RunDir) -> None:
        """Writes it to the run folder."""
        write_atomically(run.path / _FILE, json.dumps(asdict(self)))

    @staticmethod
    def forget(run: RunDir) -> None:
        """Removes the file, before the run is trained again in its folder."""
        (run.path / _FILE).unlink(missing_ok=True)

    def sentence(self, run: RunDir) -> str:
        """Says what is missing, and how to have it again."""
        gone = "only its best weights: the rest was" if self.left else "no checkpoint: all were"
        return (
            f"{run.path} has {gone} removed after it had ended, as keep={self.keep} says.\n"
            f"{train_again(run)}"
        )


def train_again(run: RunDir) -> str:
    """Says how to train a run again."""
    return f"Train it again, with the same seed; on a CPU, to the bit:\n  {command(run)}"


def command(run: RunDir) -> str:
    """Returns the command that trains a run again, in a folder of its own."""
    study = StudyDir(run.path.parent.parent)
    info = run.info()
    is_trial = info.number is not None and study.info_file.exists()
    program = study.info()["command"] if is_trial else ["python", "-m", "dlsweep"]
    return shlex.join([*map(str, program), *again(info)])


def again(run: RunInfo) -> list[str]:
    """Returns the overrides that train a run again, without registering its model again."""
    return [
        one for one in run.overrides if not one.partition("=")[0].endswith(".registered_model_name")
    ]
