"""A mailbox: carries messages between a worker and its driver through files in a shared folder.

Each side appends lines to a file of its own, and reads that of the other. Only its writer appends
to a file: a worker that starts again, and a driver that takes over, begin the next file, so lines
of a process that was cut off are never mixed with those of its successor. The files work on NFS,
where a client may not see for half a minute that a folder has a new file, but sees new bytes in a
file that it opens.

A message of the driver may say to which worker it is, by the number of that worker's file. If Slurm
has started a job for a second time while the first one still runs, as on a node whose daemon has
died, the first worker reads that there is another, and ends.

A side that has nothing to say touches its file. The other side sees the file change, and measures
silence by its own monotonic clock; clocks of two hosts are never compared.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from dlsweep.launchers.worker import Message, Post

#: Seconds between two signs of life, and between two looks for the other side's next file.
_BEAT = 1.0
#: Seconds between two looks: while somebody waits for an answer, and otherwise.
ANSWER_POLL, IDLE_POLL = 0.02, 0.05


class Outbox:
    """Writes messages to a file of its own, the next one of its writer.

    Args:
        folder: The mailbox.
        writer: Who writes: ``driver`` or ``worker``.

    Attributes:
        number: The number of the file.
    """

    def __init__(self, folder: Path, writer: str) -> None:
        self.number = _newest(folder, writer) + 1
        while True:
            self._path = _file(folder, writer, self.number)
            try:
                self._path.touch(exist_ok=False)
            except FileExistsError:
                self.number += 1
            else:
                break
        self._beaten = time.monotonic()

    def send(self, message: Message) -> None:
        """Appends a message."""
        with self._path.open("ab", buffering=0) as file:
            file.write(json.dumps(message).encode() + b"\n")

    def beat(self) -> None:
        """Gives a sign of life, unless the last one was a moment ago."""
        if time.monotonic() - self._beaten >= _BEAT:
            self._beaten = time.monotonic()
            os.utime(self._path)


class Inbox:
    """Reads the messages of the other side, each once.

    Args:
        folder: The mailbox.
        writer: Who writes: ``driver`` or ``worker``.
        is_new: Whether to skip what was written before now.

    Attributes:
        number: The number of the file that it reads.
    """

    def __init__(self, folder: Path, writer: str, is_new: bool = False) -> None:
        self._folder, self._writer = folder, writer
        self.number = max(1, _newest(folder, writer)) if is_new else 1
        self._offset = 0
        self._seen: tuple[int, int] | None = None
        self._changed = self._looked = time.monotonic()
        if is_new:
            self._read()

    def receive(self) -> list[Message]:
        """Returns the messages since the last call, without waiting."""
        messages = self._read()
        if not messages and time.monotonic() - self._looked >= _BEAT:
            self._looked = time.monotonic()
            if _file(self._folder, self._writer, self.number + 1).exists():
                messages = self._read()  # what came in between
                self.number, self._offset = self.number + 1, 0
                self._changed = time.monotonic()
        return messages

    @property
    def silence(self) -> float:
        """Seconds since the other side's file has changed."""
        return time.monotonic() - self._changed

    @property
    def is_begun(self) -> bool:
        """Whether the other side has ever begun a file."""
        return self._seen is not None

    def _read(self) -> list[Message]:
        try:
            with _file(self._folder, self._writer, self.number).open("rb") as file:
                found = os.fstat(file.fileno())
                file.seek(self._offset)
                lines = file.read() if found.st_size > self._offset else b""
        except FileNotFoundError:
            return []
        if (found.st_size, found.st_mtime_ns) != self._seen:
            self._seen = found.st_size, found.st_mtime_ns
            self._changed = time.monotonic()
        whole = lines[: lines.rfind(b"\n") + 1]  # a line may still be on its way
        self._offset += len(whole)
        return [json.loads(line) for line in whole.splitlines()]


class MailPost(Post):
    """The worker's end of a mailbox. What another worker there is told is skipped.

    Args:
        folder: The mailbox.
    """

    def __init__(self, folder: Path) -> None:
        self._inbox = Inbox(folder, "driver", is_new=True)
        self._outbox = Outbox(folder, "worker")
        self._looked = 0.0

    def send(self, message: Message) -> None:
        """Sends a message to the driver."""
        self._outbox.send(message)

    def receive(self, seconds: float) -> list[Message]:
        """Waits at most that long for messages; looks at the file now and then only."""
        self._outbox.beat()
        pause = ANSWER_POLL if seconds else IDLE_POLL
        rest = self._looked + pause - time.monotonic()
        if rest > seconds:
            return []
        time.sleep(max(0.0, rest))
        self._looked = time.monotonic()
        messages, mine = self._inbox.receive(), self._outbox.number
        if any(message.get("to", mine) > mine for message in messages):
            return [{"kind": "end"}]
        return [one for one in messages if one.get("to", mine) == mine or one["kind"] == "end"]

    @property
    def silence(self) -> float:
        """Seconds since the driver has last given a sign of life."""
        return self._inbox.silence


def _newest(folder: Path, writer: str) -> int:
    """Returns the number of a writer's last file; 0 if there is none."""
    numbers = (path.stem.partition("-")[2] for path in folder.glob(f"{writer}-*.jsonl"))
    return max(map(int, numbers), default=0)


def _file(folder: Path, writer: str, number: int) -> Path:
    return folder / f"{writer}-{number}.jsonl"
