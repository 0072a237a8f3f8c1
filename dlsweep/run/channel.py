"""The wire between a trial and its driver: the trial rings, the driver answers.

The trial writes its record to the run folder first and then rings; the driver reads the folder
and answers whether to go on. Nothing but a few plain bytes crosses, so nothing is unpickled.
"""

from __future__ import annotations

import os
from multiprocessing.connection import Connection, Pipe

#: The variable that tells a trial's process which inherited descriptor is its wire.
CHANNEL_VARIABLE = "DLSWEEP_CHANNEL"
#: The variable that tells a process that it is a trial, and where its run folder is.
RUN_VARIABLE = "DLSWEEP_RUN"

_RING, _GO = b"ring", b""


class Channel:
    """The trial's end."""

    def __init__(self, connection: Connection) -> None:
        self._connection: Connection | None = connection
        self._unanswered = 0

    @classmethod
    def inherited(cls) -> Channel | None:
        """The wire that the launcher passed to this process, if it passed one."""
        descriptor = os.environ.pop(CHANNEL_VARIABLE, None)
        return cls(Connection(int(descriptor))) if descriptor else None

    def ring(self) -> None:
        """Tells the driver that there is a new record to judge."""
        if self._connection:
            try:
                self._connection.send_bytes(_RING)
                self._unanswered += 1
            except OSError:
                self._connection = None

    def verdict(self) -> str | None:
        """The driver's wish: a reason to stop, or None to go on.

        Waits for the answer to every ring that is still open; without one it only looks.
        A driver that died is a reason to stop: its trials end with it and are resumed with it.
        """
        try:
            while self._connection and (self._unanswered or self._connection.poll(0)):
                message = self._connection.recv_bytes()
                if message == _GO:
                    self._unanswered -= 1
                else:
                    return message.decode()
        except (EOFError, OSError):
            self._connection = None
        return None if self._connection else "interrupted"

    def close(self) -> None:
        """Hangs up."""
        if self._connection:
            self._connection.close()
            self._connection = None


class DriverEnd:
    """The driver's end; ready to be waited on, and owed an answer for each ring.

    Attributes:
        child_descriptor: The trial's end, for its process to inherit.
        is_open: Whether the trial may still ring.
    """

    def __init__(self) -> None:
        self._connection, self._child = Pipe()
        self.child_descriptor = self._child.fileno()
        self.is_open = True

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self._connection.fileno()

    def close_child(self) -> None:
        """Forgets the trial's end, once the trial has it."""
        self._child.close()

    def rang(self, wait: float | None = 0.0) -> bool:
        """Takes one ring; waits this many seconds for it, or with None until the trial ends."""
        try:
            return self._connection.poll(wait) and self._connection.recv_bytes() == _RING
        except (EOFError, OSError):
            self.is_open = False
            return False

    def answer(self, stop: str | None = None) -> None:
        """Lets the trial go on, or tells it why to stop."""
        try:
            self._connection.send_bytes(stop.encode() if stop else _GO)
        except OSError:
            return  # the trial has ended; its exit is noticed elsewhere

    def close(self) -> None:
        """Hangs up."""
        self._connection.close()
