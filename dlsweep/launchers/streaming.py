"""Streams a run folder between the driver and a node that does not see the driver's folders.

The driver sends what a trial needs to start or resume. The node keeps a folder of its own and sends
what the trial adds: new bytes of records, system metrics and log, media, and checkpoints, each
complete. The driver's copy is the run folder: a trial that is lost with its node is resumed from
what has arrived there.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dlsweep.errors import StudyError
from dlsweep.folders.rundir import RunDir

#: Files to which a trial appends.
_APPENDED = ("records.jsonl", "system.jsonl", "log.txt")
#: Small files that a trial writes whole. The result comes last: it ends the run.
_WRITTEN = ("user_attrs.json", "result.json")
#: What the driver sends; the rest belongs to the driver, or to one machine.
_NEEDED = re.compile(
    r"(run|attempt|user_attrs|configs)\.json|records\.jsonl|\.hydra/\w+\.yaml|checkpoints/step-[\d.+]+/[^/]+"
)
#: What the driver takes from a node.
_TAKEN = re.compile(
    r"(records|system)\.jsonl|log\.txt|(user_attrs|result|problems)\.json"
    r"|media/[^/]+|checkpoints/step-[\d.+]+/[^/]+"
)
#: The largest part of a file in a message, in bytes.
_PART = 1 << 22


def pack(folder: RunDir) -> dict[str, bytes]:
    """Returns the files of a run folder that a node needs to train the run, by relative path."""
    paths = (path for path in folder.path.rglob("*") if path.is_file() and not path.is_symlink())
    files = {path.relative_to(folder.path).as_posix(): path for path in paths}
    return {name: path.read_bytes() for name, path in files.items() if _NEEDED.fullmatch(name)}


def unpack(message: dict[str, Any], there: RunDir) -> tuple[list[str], RunDir]:
    """Writes the files of a message to a new folder on this node.

    Args:
        message: The message, with the arguments after ``python`` and the files.
        there: The driver's folder.

    Returns:
        The arguments for the new folder, and the folder.
    """
    folder = RunDir(Path(tempfile.mkdtemp(prefix="dlsweep-")) / there.path.name)
    for name, content in message["files"].items():
        file = folder.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return [text.replace(str(there.path), str(folder.path)) for text in message["argv"]], folder


class Sender:
    """Sends what a trial adds to its folder on this node.

    Args:
        folder: The folder on this node.
        send: Sends a message to the driver.
    """

    def __init__(self, folder: RunDir, send: Callable[[dict[str, Any]], None]) -> None:
        self._path = folder.path
        self._send = send
        self._offsets = {name: self._size(name) for name in _APPENDED}
        self._sent = {str(path) for path in self._complete()}

    def send(self, is_over: bool = False) -> None:
        """Sends what is new; when the trial is over, its result too, and removes the folder."""
        self._send_checkpoints()
        for path in sorted(self._path.glob("media/*.png")):
            if str(path) not in self._sent:
                self._send_file(path)
        for name in _APPENDED:
            self._send_new_bytes(name)
        if is_over:
            for path in (self._path / name for name in (*_WRITTEN, "problems.json")):
                if path.exists():
                    self._send_file(path)
            shutil.rmtree(self._path.parent, ignore_errors=True)

    def _send_checkpoints(self) -> None:
        """Sends new checkpoints, and which ones are left: the driver's copy retires the others."""
        complete = self._complete()
        for folder in complete:
            if str(folder) in self._sent:
                continue
            self._send_new_bytes("records.jsonl")  # a checkpoint refers to what was logged before
            try:
                files = sorted(folder.iterdir())
                for path in files:
                    self._send_file(path)
            except FileNotFoundError:
                continue  # retired meanwhile
            self._sent.add(str(folder))
            names = [one.name for one in complete]
            self._send({"kind": "checkpoint", "name": folder.name, "left": names})

    def _complete(self) -> list[Path]:
        return sorted(self._path.glob("checkpoints/step-*"))

    def _send_file(self, path: Path) -> None:
        name = path.relative_to(self._path).as_posix()
        for offset, part in _parts(path, 0):
            self._send({"kind": "bytes", "name": name, "offset": offset, "bytes": part})
        self._sent.add(str(path))

    def _send_new_bytes(self, name: str) -> None:
        path = self._path / name
        if not path.exists() or self._size(name) == self._offsets[name]:
            return
        for offset, part in _parts(path, self._offsets[name]):
            self._send({"kind": "bytes", "name": name, "offset": offset, "bytes": part})
            self._offsets[name] = offset + len(part)

    def _size(self, name: str) -> int:
        path = self._path / name
        return path.stat().st_size if path.exists() else 0


class Receiver:
    """Writes what a node sends to the driver's copy of the run folder.

    Args:
        folder: The run folder.
    """

    def __init__(self, folder: RunDir) -> None:
        self._folder = folder

    def on_bytes(self, message: dict[str, Any]) -> None:
        """Writes bytes of a file at their offset; parts of a checkpoint wait for its end.

        Raises:
            StudyError: If the file is none that a trial writes.
        """
        name = str(message["name"])
        if not _TAKEN.fullmatch(name) or ".." in name:
            raise StudyError(f"A node sent the file {name!r}, which no trial writes.")
        head, _, rest = name.partition("/")
        path = self._folder.path / name
        if head == "checkpoints":
            path = self._aside(rest.partition("/")[0]) / rest.partition("/")[2]
        path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW
        with os.fdopen(os.open(path, flags, 0o644), "r+b") as file:
            file.seek(message["offset"])
            file.write(message["bytes"])
            file.truncate()

    def on_checkpoint(self, message: dict[str, Any]) -> None:
        """Publishes a checkpoint whose files have all arrived, and removes retired ones."""
        name = str(message["name"])
        aside, final = self._aside(name), self._folder.checkpoints / name
        for path in (*aside.iterdir(), aside):
            _sync(path)
        if final.exists():
            shutil.rmtree(final)
        aside.rename(final)
        for path in self._folder.checkpoints.glob("step-*"):
            if path.name not in message["left"]:
                shutil.rmtree(path)

    def _aside(self, name: str) -> Path:
        return self._folder.checkpoints / f".{name}.arriving"


def _parts(path: Path, offset: int) -> Iterator[tuple[int, bytes]]:
    with path.open("rb") as file:
        file.seek(offset)
        part = file.read(_PART)
        yield offset, part
        while len(part) == _PART:
            offset += len(part)
            part = file.read(_PART)
            yield offset, part


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
