"""Streams a run folder between the driver and a node that does not see the driver's folders.

The driver sends what a trial needs to start or resume, as messages ``unpack`` and ``part``. The
node keeps a folder of its own and sends what the trial adds: new bytes of records, system metrics
and log (``bytes``), small files (``file``), and checkpoints, each in parts that are published once
all have arrived (``checkpoint``). The driver's copy is the run folder: a trial that is lost with
its node is resumed from what has arrived there.

Records arrive before the checkpoint that refers to them, and after the images that they refer to.
A message may arrive twice, if a driver is killed before it has acknowledged it.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from dlsweep.errors import StudyError
from dlsweep.folders.rundir import RunDir
from dlsweep.run.checkpoint import remove
from dlsweep.run.manifest import sync

#: Files of lines to which a trial appends, and its log, of which a node needs only the size.
_LINES, _LOG = ("records.jsonl", "system.jsonl"), "log.txt"
#: What the driver sends; the rest belongs to the driver, or to one machine.
_NEEDED = re.compile(
    r"(run|attempt|lineage|user_attrs|configs|variants)\.json|(records|system)\.jsonl|log\.txt"
    r"|\.hydra/\w+\.yaml|checkpoints/step-[\d.+]+/[^/]+"
)
#: What the driver takes from a node.
_TAKEN = re.compile(
    r"(records|system)\.jsonl|log\.txt|(user_attrs|result|problems|changes)\.json"
    r"|media/[^/]+|checkpoints/step-[\d.+]+/[^/]+"
)
_CHECKPOINT = re.compile(r"step-[\d.+]+")
#: The largest part of a file in a message, in bytes.
_PART = 1 << 22

Message = dict[str, Any]


def pack(folder: RunDir) -> Iterator[Message]:
    """Yields messages with the files of a run folder that a node needs to train the run."""
    yield {"kind": "unpack", "folder": str(folder.path)}
    for path in sorted(folder.path.rglob("*")):
        name = path.relative_to(folder.path).as_posix()
        if not _NEEDED.fullmatch(name) or path.is_symlink() or not path.is_file():
            continue
        size = _size_of_lines(path) if name in _LINES else path.stat().st_size
        if name == _LOG:
            yield {"kind": "part", "name": name, "offset": size, "bytes": b""}
            continue
        for offset, part in _parts(path, 0, size):
            yield {"kind": "part", "name": name, "offset": offset, "bytes": part}


class Unpacked:
    """A copy of a run folder on this node.

    Args:
        there: The driver's folder.
    """

    def __init__(self, there: RunDir) -> None:
        self._there = there
        self.folder = RunDir(Path(tempfile.mkdtemp(prefix="dlsweep-")) / there.path.name)

    def write(self, message: Message) -> None:
        """Writes a part of a file."""
        file = self.folder.path / message["name"]
        file.parent.mkdir(parents=True, exist_ok=True)
        _write(file, message["offset"], message["bytes"])

    def here(self, argv: Sequence[str]) -> list[str]:
        """Returns arguments with this folder in place of the driver's."""
        return [text.replace(str(self._there.path), str(self.folder.path)) for text in argv]

    def remove(self) -> None:
        """Removes the copy."""
        shutil.rmtree(self.folder.path.parent, ignore_errors=True)


class Sender:
    """Sends what a trial adds to its folder on this node.

    Args:
        folder: The folder on this node, before the trial starts.
        send: Sends a message to the driver.
        has_room: Returns whether more may be sent now.
    """

    def __init__(
        self, folder: RunDir, send: Callable[[Message], None], has_room: Callable[[], bool]
    ) -> None:
        self._path = folder.path
        self._send = send
        self._has_room = has_room
        self._offsets = {name: self._size(name) for name in (*_LINES, _LOG)}
        self._sent = {path.name: 0 for path in self._checkpoints()}
        self._stamps: dict[str, tuple[int, int]] = {}
        self._news: Iterator[Message] = iter(())
        self._is_last = False

    def send(self, is_over: bool) -> bool:
        """Sends what is new, as long as there is room.

        Args:
            is_over: Whether the trial has ended, so that its result is sent too.

        Returns:
            Whether everything of an ended trial was sent.
        """
        has_looked = False
        while self._has_room():
            message = next(self._news, None)
            if message is not None:
                self._send(message)
            elif self._is_last or has_looked:
                return self._is_last
            else:
                has_looked, self._is_last = not is_over, is_over
                self._news = self._look(is_over)
        return False

    def send_records(self) -> None:
        """Sends new records at once: the driver is to judge them."""
        for message in self._new_records():
            self._send(message)

    def _look(self, is_over: bool) -> Iterator[Message]:
        for folder in self._checkpoints():
            if folder.name not in self._sent:
                yield from self._checkpoint(folder)
        yield from self._new_records()
        for name in (_LINES[1], _LOG):
            yield from self._new_bytes(name, self._size(name))
        yield from self._changed_file("user_attrs.json")
        if is_over:
            yield from self._changed_file("changes.json")
            yield from self._changed_file("problems.json")
            yield from self._changed_file("result.json")  # the last one: it ends the run

    def _checkpoint(self, folder: Path) -> Iterator[Message]:
        """Yields a checkpoint, and which ones are left here: the driver removes the others."""
        yield from self._new_records()  # a checkpoint refers to what was logged before
        try:
            for path in sorted(folder.iterdir()):
                name = path.relative_to(self._path).as_posix()
                for offset, part in _parts(path, 0, path.stat().st_size):
                    yield {"kind": "bytes", "name": name, "offset": offset, "bytes": part}
        except FileNotFoundError:
            return  # the trial has removed it meanwhile
        self._sent[folder.name] = 0
        left = [one.name for one in self._checkpoints()]
        yield {"kind": "checkpoint", "name": folder.name, "left": left}

    def _checkpoints(self) -> list[Path]:
        return sorted(self._path.glob("checkpoints/step-*"))

    def _new_records(self) -> Iterator[Message]:
        """Yields new records, and before them the images that they refer to."""
        size = self._size(_LINES[0])
        if size > self._offsets[_LINES[0]]:
            for path in sorted(self._path.glob("media/*.png")):
                yield from self._changed_file(f"media/{path.name}")
            yield from self._new_bytes(_LINES[0], size)

    def _new_bytes(self, name: str, size: int) -> Iterator[Message]:
        while (offset := self._offsets[name]) < size:
            part = next(_parts(self._path / name, offset, size))[1]
            self._offsets[name] += len(part)
            yield {"kind": "bytes", "name": name, "offset": offset, "bytes": part}

    def _changed_file(self, name: str) -> Iterator[Message]:
        path = self._path / name
        if not path.exists():
            return
        about = path.stat()
        stamp = (about.st_mtime_ns, about.st_size)
        if self._stamps.get(name) != stamp:
            self._stamps[name] = stamp
            yield {"kind": "file", "name": name, "bytes": path.read_bytes()}

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

    def clear(self) -> None:
        """Removes what has arrived in part, and what a killed driver has removed in part."""
        for aside in self._folder.checkpoints.glob(".step-*"):
            shutil.rmtree(aside)

    def on_bytes(self, message: Message) -> None:
        """Writes bytes of a file at their offset; parts of a checkpoint wait for its end.

        Raises:
            StudyError: If the file is none that a trial writes.
        """
        name = _checked(message)
        head, _, rest = name.partition("/")
        path = self._folder.path / name
        if head == "checkpoints":
            path = self._aside(rest.partition("/")[0]) / rest.partition("/")[2]
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, message["offset"], message["bytes"])

    def on_file(self, message: Message) -> None:
        """Replaces a whole file.

        Raises:
            StudyError: If the file is none that a trial writes.
        """
        path = self._folder.path / _checked(message)
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f"{path.name}.arriving")
        aside.unlink(missing_ok=True)
        _write(aside, 0, message["bytes"])
        sync(aside)
        aside.replace(path)

    def on_checkpoint(self, message: Message) -> None:
        """Publishes a checkpoint whose files have all arrived, and removes those not left.

        Raises:
            StudyError: If it has no name of a checkpoint.
        """
        name = str(message["name"])
        if not _CHECKPOINT.fullmatch(name):
            raise StudyError(f"A node sent the checkpoint {name!r}. Expected step-<number>.")
        aside, final = self._aside(name), self._folder.checkpoints / name
        if not aside.exists():
            return  # the driver before has published it
        for path in (*aside.iterdir(), aside, self._folder.records_file):
            if path.exists():
                sync(path)
        if final.exists():
            remove(final)
        aside.rename(final)
        sync(self._folder.checkpoints)
        for path in self._folder.checkpoints.glob("step-*"):
            if path.name not in (name, *message["left"]):
                remove(path)

    def _aside(self, name: str) -> Path:
        return self._folder.checkpoints / f".{name}.arriving"


def _checked(message: Message) -> str:
    name = str(message["name"])
    if not _TAKEN.fullmatch(name) or "/../" in f"/{name}/":
        raise StudyError(f"A node sent the file {name!r}, which no trial writes.")
    return name


def _write(path: Path, offset: int, content: bytes) -> None:
    """Writes the end of a file, unless it is there already."""
    flags = os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW
    with os.fdopen(os.open(path, flags, 0o644), "r+b") as file:
        file.seek(offset)
        if content and file.read(len(content)) == content:
            return  # a message that has come a second time
        file.seek(offset)
        file.write(content)
        file.truncate()


def _parts(path: Path, offset: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Yields parts of a file with their offsets; an empty file has one empty part."""
    with path.open("rb") as file:
        while True:
            file.seek(offset)
            part = file.read(min(_PART, end - offset))
            yield offset, part
            offset += len(part)
            if not part or offset >= end:
                return


def _size_of_lines(path: Path) -> int:
    """Returns the size of a file's whole lines: a last line may be torn."""
    size = 0
    with path.open("rb") as file:
        for line in file:
            size += len(line) if line.endswith(b"\n") else 0
    return size
