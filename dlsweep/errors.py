"""Every error a user can meet; each message says what was wrong and what to type next.

::

    DlsweepError                  anything below; shown without a traceback
    ├── ConfigError               a key, a value or a target that cannot work
    │   ├── SpaceError            a search space that cannot be searched
    │   └── MissingExtraError     a package that is not installed
    ├── DataError                 data that is missing, damaged or of the wrong shape
    ├── DeviceError               more devices asked for than there are
    ├── StudyError                a study that cannot be opened or continued
    │   ├── StudyChangedError     its space or fixed values are others than before
    │   └── StudyLockedError      another driver is at work on it
    ├── TrackerError              a tracker that was asked for and does not work
    ├── CheckpointError           a checkpoint that cannot be read
    ├── DiskFullError             no room is left to write
    └── Diverged                  a loss that is NaN or infinite; ends the trial
"""

from __future__ import annotations

import contextlib
import difflib
import errno
from collections.abc import Iterable, Iterator
from pathlib import Path

#: Packages that an extra of dlsweep brings, by its name.
EXTRAS = {
    "torch": "torch",
    "tensorflow": "tensorflow",
    "pillow": "images",
    "mlflow": "mlflow",
    "tensorboard": "tensorboard",
    "wandb": "wandb",
    "safetensors": "safetensors",
}


class DlsweepError(Exception):
    """An error that is the user's to mend; its text is the whole message."""


class ConfigError(DlsweepError):
    """A key, a value or a target in the config cannot work."""


class SpaceError(ConfigError):
    """A search space cannot be searched."""


class MissingExtraError(ConfigError):
    """A package that the config asks for is not installed."""

    def __init__(self, package: str, wanted_by: str) -> None:
        wanted = f"'dlsweep[{EXTRAS[package]}]'" if package in EXTRAS else package
        super().__init__(
            f"{wanted_by} needs the package {package!r}, which is not installed.\n"
            f"Install it:  pip install {wanted}"
        )


class DataError(DlsweepError):
    """Data is missing, damaged or of the wrong shape."""


class DeviceError(DlsweepError):
    """More devices are asked for than the machine has."""


class StudyError(DlsweepError):
    """A study cannot be opened or continued."""


class StudyChangedError(StudyError):
    """The study on disk searches another space, or holds other values fixed."""


class StudyLockedError(StudyError):
    """Another driver is at work on the study."""


class TrackerError(DlsweepError):
    """A tracker that was asked for does not work."""


class CheckpointError(DlsweepError):
    """A checkpoint cannot be read."""


class DiskFullError(DlsweepError):
    """No room is left to write; all that was written before is kept."""

    def __init__(self, folder: object) -> None:
        super().__init__(
            f"The disk is full, so the work in {folder} has stopped. What was done is kept.\n"
            "Make room and type the same command: it goes on where this stopped."
        )


class Diverged(DlsweepError):  # noqa: N818 - the name of the status it leads to
    """A watched value became NaN or infinite."""

    def __init__(self, metric: str, value: float, step: int) -> None:
        super().__init__(f"{metric} became {value} at step {step}")


def is_disk_full(error: BaseException | None) -> bool:
    """Whether an error comes of a disk, or a quota, that is full."""
    if error is None:
        return False
    no_room = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
    return no_room or "disk is full" in str(error) or is_disk_full(error.__cause__)


@contextlib.contextmanager
def room_to_write(folder: Path) -> Iterator[None]:
    """Says in a sentence that the disk is full, wherever within that shows.

    Raises:
        DiskFullError: If it is.
    """
    try:
        yield
    except Exception as error:
        if is_disk_full(error):
            raise DiskFullError(folder) from None
        raise


def did_you_mean(received: str, valid: Iterable[str]) -> str:
    """A sentence that names the valid words nearest to the one received, or an empty string."""
    nearest = difflib.get_close_matches(received, sorted(set(valid)), n=3, cutoff=0.6)
    return f" Did you mean {' or '.join(repr(word) for word in nearest)}?" if nearest else ""
