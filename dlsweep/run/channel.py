"""The channel between a trial and its driver, for pruning without delay.

The trial writes its record to the run folder first, then notifies the driver. The driver reads the
folder and answers whether to continue. Only a few plain bytes are sent; nothing is unpickled.
"""

from __future__ import annotations

import os
from multiprocessing.connection import Connection, Pipe

#: The environment variable with the file descriptor of a trial's channel.
CHANNEL_VARIABLE = "DLSWEEP_CHANNEL"
#: The environment variable with the run folder; a process that has it is a trial.
RUN_VARIABLE = "DLSWEEP_RUN"

_RING, _GO = b"ring", b""


class Channel:
    """The trial's end of the channel."""

    def __init__(self, connection: Connection) -> None:
        self._connection: Connection | None = connection
        self._unanswered = 0

    @classmethod
    def inherited(cls) -> Channel | None:
        """Opens the channel that the launcher passed to this process, if there is one."""
        descriptor = os.environ.pop(CHANNEL_VARIABLE, None)
        return cls(Connection(int(descriptor))) if descriptor else None

    def notify(self) -> None:
        """Notifies the driver of a new record."""
        if self._connection:
            try:
                self._connection.send_bytes(_RING)
                self._unanswered += 1
            except OSError:
                self._connection = None

    def verdict(self) -> str | None:
        """Returns the driver's answer: a reason to stop, or None to continue.

        Waits for the answers to all notifications so far; without one it returns at once. If the
        driver has died, that is a reason to stop: a new driver will resume the trial.
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
        """Closes the channel."""
        if self._connection:
            self._connection.close()
            self._connection = None


class DriverEnd:
    """The driver's end of the channel. It can be polled, and must answer each notification.

    Attributes:
        child_descriptor: The trial's end, for its process to inherit.
        is_open: Whether the trial may still send notifications.
    """

    def __init__(self) -> None:
        self._connection, self._child = Pipe()
        self.child_descriptor = self._child.fileno()
        self.is_open = True

    def fileno(self) -> int:
        """The file descriptor to poll."""
        return self._connection.fileno()

    def close_child(self) -> None:
        """Closes this process's copy of the trial's end."""
        self._child.close()

    def read_notification(self, wait: float | None = 0.0) -> bool:
        """Reads one notification. Waits for that many seconds; with None, until the trial ends."""
        try:
            return self._connection.poll(wait) and self._connection.recv_bytes() == _RING
        except (EOFError, OSError):
            self.is_open = False
            return False

    def answer(self, stop: str | None = None) -> None:
        """Answers: continue, or the reason to stop."""
        try:
            self._connection.send_bytes(stop.encode() if stop else _GO)
        except OSError:
            return  # the trial has ended; the driver sees its exit elsewhere

    def close(self) -> None:
        """Closes the channel."""
        self._connection.close()
