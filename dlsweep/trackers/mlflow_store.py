"""MLflow's SQLite file of one's own, made and checked. Imports no MLflow."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dlsweep.errors import TrackerError
from dlsweep.lock import Lock

_CREATE_SECONDS = 60.0


@contextmanager
def creating(path: Path) -> Iterator[None]:
    """Makes an empty database, and keeps other processes away while MLflow fills it.

    Several that create its tables at once crash each other.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = Lock(path.with_name(f"{path.name}.lock"))
    if not lock.wait(_CREATE_SECONDS):
        raise TrackerError(f"{path} is being created by {lock.holder()}, without an end.")
    try:
        if not path.exists():
            connection = sqlite3.connect(path)
            connection.execute("PRAGMA journal_mode=WAL")
            connection.close()
        yield
    finally:
        lock.release()


def check_writable(path: Path) -> None:
    """Raises TrackerError if an SQLite file cannot be made or written."""
    nearest = path if path.exists() else next(one for one in path.parents if one.exists())
    if not os.access(nearest, os.W_OK) or (nearest != path and not nearest.is_dir()):
        raise TrackerError(
            f"MLflow's file {path} cannot be written: no right to write {nearest}.\n"
            "Give another with  tracking.mlflow.tracking_uri=sqlite:////some/folder/mlflow.db"
        )
