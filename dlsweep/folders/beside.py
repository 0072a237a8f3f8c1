"""Database files beside a study, such as MLflow's: recorded relative to the folder that names them.

A folder of results can be moved or copied as a whole: its records then name the files that moved
along with it. The address of any other file or server is recorded as it is.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dlsweep.security import addresses

_SQLITE = "sqlite:///"
#: The folders of run folders in a study folder.
_OF_RUNS = ("trials", "runs")


def recorded(tracking: Any, folder: Path) -> Any:
    """Returns the options of trackers as ``study.json`` and ``run.json`` store them.

    Args:
        tracking: The options, with absolute paths.
        folder: The study folder or the run folder.
    """

    def relative(path: Path) -> Path:
        if not path.is_absolute() or path.parent not in _places(folder):
            return path
        written = Path(os.path.relpath(path, folder))
        return written if _joined(folder, written) == path else path

    return _mapped(tracking, relative)


def found(tracking: Any, folder: Path) -> Any:
    """Returns recorded options with absolute paths, wherever the folder is by now.

    Older records have absolute paths. One that leads away from the folder is stale, unless a
    command has named it and its folder exists; then the file of the same name beside the folder is
    used, if there is one.

    Args:
        tracking: The options as recorded.
        folder: The study folder or the run folder.
    """

    def absolute(path: Path) -> Path:
        if not path.is_absolute():
            return _joined(folder, path)
        is_elsewhere = path.parent not in (folder, *folder.parents)
        beside = _joined(folder, Path(os.path.relpath(_places(folder)[-1] / path.name, folder)))
        if is_elsewhere and beside.is_file() and not _is_meant(path):
            return beside
        return path

    return _mapped(tracking, absolute)


def _joined(folder: Path, path: Path) -> Path:
    """Returns the absolute path of a recorded one, or the same path if it leads too far up.

    If the folder is a link, what lies beside it is beside the folder that it leads to.
    """
    joined, real = Path(os.path.normpath(folder / path)), os.path.realpath(folder / path)
    if joined.parent not in _places(folder):
        return path
    return joined if os.path.realpath(joined) == real else Path(real)


def _is_meant(path: Path) -> bool:
    return addresses.is_named(f"{_SQLITE}{path}") and path.parent.is_dir()


def _places(folder: Path) -> list[Path]:
    """Returns the folder itself and those above it, up to the folder of all results."""
    height = 3 if folder.parent.name in _OF_RUNS else 1
    return [folder, *folder.parents[:height]]


def _mapped(node: Any, convert: Callable[[Path], Path]) -> Any:
    """Converts the path of every SQLite file in nested options."""
    if isinstance(node, dict):
        return {name: _mapped(value, convert) for name, value in node.items()}
    if isinstance(node, str) and node.startswith(_SQLITE) and "${" not in node:
        return f"{_SQLITE}{convert(Path(node.removeprefix(_SQLITE)))}"
    return node
