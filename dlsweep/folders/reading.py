"""Reads files of a folder that anybody may have made: damaged, nested too deep, or not a file."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

from dlsweep.errors import StudyError


def open_file(path: Path) -> BinaryIO:
    """Opens a regular file for reading; never waits, as opening a named pipe would.

    Raises:
        FileNotFoundError: If it does not exist.
        StudyError: If it is something else than a regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise StudyError(f"{path} is not a regular file. Remove it, or restore the folder.")
    return os.fdopen(descriptor, "rb")


def read_text(path: Path) -> str:
    """Reads a text file in UTF-8.

    Raises:
        FileNotFoundError: If it does not exist.
        StudyError: If it is not a regular file, or not UTF-8.
    """
    with open_file(path) as file:
        try:
            return file.read().decode()
        except UnicodeDecodeError as error:
            raise StudyError(f"{path} is damaged: {error}") from None


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
        FileNotFoundError: If it does not exist.
        StudyError: If it is not a regular file, or not JSON.
    """
    text = read_text(path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise StudyError(f"{path} is damaged: {error}") from None
