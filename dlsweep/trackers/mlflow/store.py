"""Creates and checks MLflow's SQLite file, without importing MLflow."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from importlib.metadata import version
from pathlib import Path

from dlsweep.data.cache import cache_folder
from dlsweep.errors import ConfigError, TrackerError
from dlsweep.folders.database import is_plain
from dlsweep.folders.lock import Lock

#: What the URI of an SQLite file begins with.
SQLITE = "sqlite:///"
_CREATE_SECONDS = 60.0


def database_of(tracking_uri: str) -> Path | None:
    """Returns the SQLite file of a tracking URI; None if it is a server's.

    Raises:
        ConfigError: If the URI is neither, or MLflow cannot open the file.
    """
    if tracking_uri.startswith(SQLITE) and tracking_uri != SQLITE:
        database = Path(tracking_uri.removeprefix(SQLITE)).absolute()
        if not is_plain(database):
            raise ConfigError(
                f"tracking.mlflow.tracking_uri: Received {tracking_uri!r}. MLflow cannot open "
                "a file whose path contains ?, %, { or }.\nGive another with  "
                "tracking.mlflow.tracking_uri=sqlite:////some/folder/mlflow.db"
            )
        return database
    if not re.match(r"https?://[^/]", tracking_uri):
        raise ConfigError(
            f"tracking.mlflow.tracking_uri: Received {tracking_uri!r}.\n"
            "Expected a file, sqlite:///outputs/mlflow.db, or a server, http://host:5000"
        )
    return None


@contextmanager
def creating(path: Path) -> Iterator[None]:
    """Creates the database, locked against other processes while MLflow creates its tables.

    Processes that create the tables at the same time crash each other. Creating them takes MLflow a
    second or two and always gives the same file, so the file is cached and copied the next time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = Lock(path.with_name(f"{path.name}.lock"))
    if not lock.wait(_CREATE_SECONDS):
        raise TrackerError(f"{path} is being created by {lock.holder()}, without an end.")
    try:
        is_new = not path.exists()
        if is_new:
            _begin(path)
        yield
        if is_new:
            _keep_tables(path)
    finally:
        lock.release()


def _kept_tables() -> Path:
    """Returns the cached database with the tables of this MLflow version."""
    return cache_folder() / f"mlflow-{version('mlflow-skinny')}.db"


def _begin(path: Path) -> None:
    aside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    if _kept_tables().exists():
        shutil.copyfile(_kept_tables(), aside)
    with closing(sqlite3.connect(aside)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    aside.replace(path)


def _keep_tables(path: Path) -> None:
    """Copies a new database to the cache, without its own paths. A failure is ignored."""
    kept = _kept_tables()
    if kept.exists():
        return
    with suppress(OSError, sqlite3.Error):
        kept.parent.mkdir(parents=True, exist_ok=True)
        aside = kept.with_name(f"{kept.name}.{os.getpid()}.tmp")
        with closing(sqlite3.connect(path)) as made, closing(sqlite3.connect(aside)) as copy:
            made.backup(copy)
            copy.execute("DELETE FROM experiment_tags")
            copy.execute("DELETE FROM experiments")
            copy.commit()
        aside.replace(kept)


def gather(path: Path) -> None:
    """Moves the write-ahead log into the database file, unless somebody reads it now."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def check_writable(path: Path) -> None:
    """Raises TrackerError if an SQLite file cannot be created or written."""
    nearest = path if path.exists() else next(one for one in path.parents if one.exists())
    if not os.access(nearest, os.W_OK) or (nearest != path and not nearest.is_dir()):
        raise TrackerError(
            f"MLflow's file {path} cannot be written: no right to write {nearest}.\n"
            "Give another with  tracking.mlflow.tracking_uri=sqlite:////some/folder/mlflow.db"
        )
