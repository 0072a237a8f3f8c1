"""All errors for users. Each message says what was wrong and what to type next.

::

    DlsweepError                  the base class; printed without a traceback
    ├── ConfigError               a key, a value or a target that cannot work
    │   ├── SpaceError            a search space that cannot be searched
    │   └── MissingExtraError     a package that is not installed
    ├── DataError                 data that is missing, damaged or of the wrong shape
    ├── DeviceError               more devices requested than there are
    ├── StudyError                a study that cannot be opened or continued
    │   ├── StudyChangedError     its space or fixed values have changed
    │   └── StudyLockedError      another driver has locked it
    ├── TrackerError              a configured tracker that does not work
    ├── CheckpointError           a checkpoint that cannot be read
    ├── ExportError               a model that cannot be exported, or an export that cannot be read
    ├── ServeError                a server that cannot start
    ├── DiskFullError             the disk is full
    └── Diverged                  a loss that is NaN or infinite; ends the trial
"""

from __future__ import annotations

import contextlib
import difflib
import errno
from collections.abc import Iterable, Iterator
from pathlib import Path

#: The packages of each extra of dlsweep, by the extra's name.
EXTRAS = {
    "torch": "torch",
    "tensorflow": "tensorflow",
    "pillow": "images",
    "mlflow": "mlflow",
    "tensorboard": "tensorboard",
    "wandb": "wandb",
    "safetensors": "safetensors",
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "onnxscript": "onnx",
    "ai_edge_litert": "litert",
    "orjson": "serve",
    "starlette": "serve",
    "uvicorn": "serve",
    "ray": "ray",
    "psycopg": "postgres",
    "submitit": "slurm",
    "optunahub": "hub",
}


class DlsweepError(Exception):
    """An error that the user can fix. Its text is the whole message."""


class ConfigError(DlsweepError):
    """A key, a value or a target in the config cannot work."""


class SpaceError(ConfigError):
    """A search space cannot be searched."""


class MissingExtraError(ConfigError):
    """A package that the config needs is not installed."""

    def __init__(self, package: str, wanted_by: str) -> None:
        wanted = f"'dlsweep[{EXTRAS[package]}]'" if package in EXTRAS else package
        super().__init__(
            f"{wanted_by} needs the package {package!r}, which is not installed.\n"
            f"Install it:  pip install {wanted}"
        )


class DataError(DlsweepError):
    """Data is missing, damaged or of the wrong shape."""


class DeviceError(DlsweepError):
    """More devices are requested than the machine has."""


class StudyError(DlsweepError):
    """A study cannot be opened or continued."""


class StudyChangedError(StudyError):
    """The study on disk has another search space or other fixed values."""


class StudyLockedError(StudyError):
    """Another driver has locked the study."""


class TrackerError(DlsweepError):
    """A configured tracker does not work."""


class CheckpointError(DlsweepError):
    """A checkpoint cannot be read."""


class ExportError(DlsweepError):
    """A model cannot be exported, or an exported model cannot be read."""


class ServeError(DlsweepError):
    """A server cannot start."""


class DiskFullError(DlsweepError):
    """The disk is full. Everything written before is kept."""

    def __init__(self, folder: object) -> None:
        super().__init__(
            f"The disk is full, so the work in {folder} has stopped. Finished work is kept.\n"
            "Free some space and type the same command: it resumes."
        )


class Diverged(DlsweepError):  # noqa: N818 - the name of the status it leads to
    """A loss or the monitored metric became NaN or infinite."""

    def __init__(self, metric: str, value: float, step: int) -> None:
        super().__init__(f"{metric} became {value} at step {step}")


def is_disk_full(error: BaseException | None) -> bool:
    """Whether an error means that a disk or a quota is full."""
    if error is None:
        return False
    no_room = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
    return no_room or "disk is full" in str(error) or is_disk_full(error.__cause__)


@contextlib.contextmanager
def room_to_write(folder: Path) -> Iterator[None]:
    """Converts errors of a full disk to a DiskFullError.

    Raises:
        DiskFullError: If the disk is full.
    """
    try:
        yield
    except Exception as error:
        if is_disk_full(error):
            raise DiskFullError(folder) from None
        raise


def did_you_mean(received: str, valid: Iterable[str]) -> str:
    """Returns a sentence with the nearest valid words, or an empty string."""
    nearest = difflib.get_close_matches(received, sorted(set(valid)), n=3, cutoff=0.6)
    return f" Did you mean {' or '.join(repr(word) for word in nearest)}?" if nearest else ""
