"""Requests to the driver of a study, as files in its folder: no signal, no socket, any host.

Each request is one JSON file, written aside and renamed. The driver reads the folder a few times a
second, and removes a request once it is done. A request is data: nothing in it is executed.
"""

from __future__ import annotations

import json
import os
import stat
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlsweep.errors import StudyError
from dlsweep.folders.rundir import refuse_link, write_atomically

#: Each kind of request, and the types of what it says. ``stop`` and ``kill`` name the driver that
#: they are for, so that they never stop a later one.
_KINDS: dict[str, dict[str, type]] = {
    "stop": {"driver": str},
    "kill": {"driver": str},
    "kill_trial": {"driver": str, "number": int},
    "enqueue": {"params": dict},
    "extend": {"n_trials": int},
}
#: The most bytes of a request.
_LARGEST = 1 << 16


@dataclass(frozen=True)
class Request:
    """A request.

    Attributes:
        path: Its file; the name is unique, and names sort by time.
        kind: What is asked for.
        about: What the request says, by key.
    """

    path: Path
    kind: str
    about: dict[str, Any]


class Requests:
    """The requests in a folder.

    Args:
        folder: The folder ``requests`` of a study.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._refused: set[str] = set()

    def leave(self, kind: str, **about: Any) -> Path:
        """Writes a request; returns its file, which disappears when the request is done.

        Raises:
            StudyError: If the folder is a link, or cannot be written.
        """
        refuse_link(self.folder)
        path = self.folder / f"{time.time_ns():020d}-{uuid.uuid4().hex[:12]}.json"
        try:
            write_atomically(path, json.dumps({"kind": kind, **about}))
        except OSError as error:
            raise StudyError(f"{self.folder} cannot be written: {error.strerror}.") from None
        return path

    def pending(self, say: Callable[[str], None]) -> list[Request]:
        """Reads all requests, the oldest first. One that cannot be read is named once, and stays.

        Args:
            say: Gets a sentence about each file that is no request.
        """
        try:
            names = sorted(name for name in os.listdir(self.folder) if name.endswith(".json"))
        except FileNotFoundError:
            return []
        except NotADirectoryError:
            names = [""]
        found = []
        for name in names:
            if name in self._refused:
                continue
            try:
                refuse_link(self.folder)
                found.append(_read(self.folder / name))
            except FileNotFoundError:
                continue  # whoever left it has taken it back
            except StudyError as error:
                say(f"{error} It is ignored.")
                self._refused.add(name)
        return found


def _read(path: Path) -> Request:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except FileNotFoundError:
        raise
    except OSError as error:  # a link, a socket, a file of somebody else
        raise StudyError(f"{path} cannot be read: {error.strerror}.") from None
    try:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise StudyError(f"{path} is not a regular file.")
        if about.st_size > _LARGEST:
            raise StudyError(f"{path} has {about.st_size} bytes, more than a request ever has.")
        text = os.read(descriptor, _LARGEST)
    finally:
        os.close(descriptor)
    try:
        says = dict(json.loads(text))
        kind = says.pop("kind")
        if {key: type(value) for key, value in says.items()} != _KINDS[kind]:
            raise TypeError(f"a request {kind!r} does not say {sorted(says)}")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise StudyError(f"{path} is damaged: {error!r}.") from None
    return Request(path, kind, says)
