"""Finds the artifacts of a moved MLflow file again: MLflow records absolute paths in it.

dlsweep stores artifacts in ``mlartifacts``, beside MLflow's SQLite file. If both have been moved or
copied, the paths in the file lead to where they were. MLflow itself is not imported.
"""

from __future__ import annotations

import os
import re
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from dlsweep.errors import TrackerError
from dlsweep.security import addresses
from dlsweep.security.printable import printable

#: The folder of all artifacts, beside the database.
ARTIFACTS = "mlartifacts"
_PATIENCE = 60.0
#: The columns with absolute URIs of artifacts.
_COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
_REPLACE = """
UPDATE {table} SET {column} = :new || substr({column}, length(:old) + 1)
WHERE substr({column}, 1, length(:old)) = :old
"""
_LOCATIONS = """
SELECT artifact_location FROM experiments WHERE experiment_id = :id
UNION SELECT artifact_uri FROM runs WHERE experiment_id = :id
UNION SELECT artifact_location FROM logged_models WHERE experiment_id = :id
"""


def follow_move(database: Path) -> None:
    """Corrects the paths of artifacts in a moved database, once, and prints one line.

    Artifacts that stayed where they were, and are not beside the database, keep their paths.

    Args:
        database: MLflow's SQLite file; nothing happens if it does not exist.

    Raises:
        TrackerError: If it is another program's file, or has moved and cannot be written.
    """
    if not database.is_file():
        return
    with _opened(database) as opened:
        moved = [root for root in _roots(opened) if _has_moved(root, database)]
        if not moved:
            return
        opened.execute("BEGIN IMMEDIATE")
        for root in moved:
            _rewrite(opened, root, _root(database))
        opened.commit()
    before = ", ".join(sorted(str(_path(root).parent) for root in moved))
    line = f"{database} has moved from {before}: MLflow finds its artifacts here again."
    print(printable(line), file=sys.stderr)


def refuse_elsewhere(database: Path, experiment: str) -> None:
    """Checks that all artifacts of an experiment belong beside the database.

    The file may come from anybody, like the folders beside it; one that a command has named may
    store artifacts anywhere.

    Args:
        database: MLflow's SQLite file.
        experiment: MLflow's id of the experiment.

    Raises:
        ConfigError: If there is a place elsewhere that no command of the user has named.
    """
    if addresses.is_named(f"sqlite:///{database}"):
        return
    with _opened(database) as opened:
        locations = [text for (text,) in opened.execute(_LOCATIONS, {"id": experiment}) if text]
    folder = Path(os.path.realpath(database.parent))
    for location in locations:
        if not _is_within(location, folder):
            named = location if "://" in location else Path(location).absolute().as_uri()
            addresses.refuse_unknown({"tracking": {"mlflow": {"artifacts": named}}}, database)


@contextmanager
def _opened(database: Path) -> Iterator[sqlite3.Connection]:
    try:
        address = f"{database.as_uri()}?mode=rw"
        with closing(sqlite3.connect(address, _PATIENCE, uri=True)) as opened:
            tables = {name for (name,) in opened.execute("SELECT name FROM sqlite_master")}
            if tables and "experiments" not in tables:
                raise TrackerError(f"{database} is no file of MLflow's, so it is left as it is.")
            yield opened
    except sqlite3.Error as error:
        raise TrackerError(f"MLflow's file {database} cannot be used: {error}.") from error


def _roots(opened: sqlite3.Connection) -> set[str]:
    """Returns every root of artifacts that dlsweep has made, with a slash at its end."""
    if not opened.execute("SELECT 1 FROM sqlite_master WHERE name = 'experiments'").fetchone():
        return set()
    locations = opened.execute("SELECT artifact_location FROM experiments")
    found = (re.fullmatch(f"(file:///.*/{ARTIFACTS}/)[^/]+", text or "") for (text,) in locations)
    return {match[1] for match in found if match}


def _root(database: Path) -> str:
    return f"{database.parent.as_uri()}/{ARTIFACTS}/"


def _has_moved(root: str, database: Path) -> bool:
    """Whether a root is not that of the database, and its artifacts are not only there."""
    before, now = _path(root), database.parent / ARTIFACTS
    if root == _root(database) or os.path.realpath(before) == os.path.realpath(now):
        return False
    return now.is_dir() or not before.is_dir()


def _rewrite(opened: sqlite3.Connection, old: str, new: str) -> None:
    for table, column in _COLUMNS:
        opened.execute(_REPLACE.format(table=table, column=column), {"old": old, "new": new})
    folders = {"old": f"{_path(old).parent}/", "new": f"{_path(new).parent}/"}
    statement = _REPLACE.format(table="tags", column="value")
    opened.execute(f"{statement} AND key = 'dlsweep.folder'", folders)


def path_of(location: str) -> Path | None:
    """Returns the path of a location on this machine; None if it is elsewhere."""
    parts = urlsplit(location)
    is_here = parts.scheme in ("", "file") and not (parts.netloc or parts.query or parts.fragment)
    return _path(location) if is_here else None


def _path(location: str) -> Path:
    """Returns the path of a location, a URI of a file or a path."""
    parts = urlsplit(location)
    return Path(os.path.normpath(unquote(parts.path) if parts.scheme == "file" else location))


def _is_within(location: str, folder: Path) -> bool:
    """Whether a location is in a folder (a path without links), wherever links in it lead."""
    path = path_of(location)
    return path is not None and Path(os.path.realpath(path)).is_relative_to(folder)
