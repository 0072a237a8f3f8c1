"""The worker's side of Ray: an actor, whose process is the worker of a slot."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from typing import Any

from dlsweep.launchers.worker import Message, Post, Setup, Worker

#: Who has not answered for so long is lost, in seconds: its node or its network is gone.
LEASE = 15.0
#: How long workers may take to end, in seconds.
END = 5.0
#: How long a call waits for messages, in seconds.
_POLL = 2.0
#: How many bytes of files may wait for the driver, and how many one answer may have.
_ROOM, _ANSWER = 1 << 25, 1 << 24


class ActorPost(Post):
    """Carries messages through the calls of an actor, whose threads may run them in any order.

    Each driver has a name, and numbers its messages. What comes from a driver that another one has
    replaced is dropped. The driver acknowledges what it has read; the rest is sent again.
    """

    def __init__(self, driver: str) -> None:
        self._driver = driver
        self._early: dict[int, Message] = {}
        self._given = 0
        self._outbox: list[tuple[int, Message]] = []
        self._count = 0
        self._new = threading.Condition()
        self._heard = time.monotonic()

    @property
    def has_room(self) -> bool:  # type: ignore[override]
        """Whether the driver has taken most of what was sent."""
        with self._new:
            return sum(_weight(message) for _, message in self._outbox) < _ROOM

    def send(self, message: Message) -> None:
        """Keeps a message until the driver has read it."""
        with self._new:
            self._count += 1
            self._outbox.append((self._count, message))
            self._new.notify_all()

    def receive(self, seconds: float) -> list[Message]:
        """Waits at most that long for the driver's next messages."""
        with self._new:
            if seconds:
                self._new.wait_for(lambda: self._given + 1 in self._early, seconds)
            messages = []
            while self._given + 1 in self._early:
                self._given += 1
                messages.append(self._early.pop(self._given))
            return messages

    @property
    def silence(self) -> float:
        """Seconds since the driver has last asked for messages."""
        return time.monotonic() - self._heard

    def greet(self, driver: str) -> None:
        """Takes a new driver for the one before."""
        with self._new:
            self._driver, self._early, self._given = driver, {}, 0
            self._heard = time.monotonic()

    def put(self, driver: str, number: int, message: Message) -> None:
        """Takes a message of the driver."""
        with self._new:
            if driver == self._driver:
                self._early[number] = message
                self._new.notify_all()

    def take(self, driver: str, after: int) -> list[tuple[int, Message]]:
        """Waits a moment for messages to the driver, which has read those up to ``after``."""
        with self._new:
            if driver != self._driver:
                return []
            self._heard = time.monotonic()
            self._outbox = [entry for entry in self._outbox if entry[0] > after]
            self._new.wait_for(lambda: self._outbox, _POLL)
            self._heard = time.monotonic()
            return list(_first(self._outbox, _ANSWER))

    @property
    def is_empty(self) -> bool:
        """Whether the driver has read everything."""
        return not self._outbox


class Actor:
    """A slot's process on Ray."""

    def __init__(self, setup: dict[str, Any], driver: str) -> None:
        self._post = ActorPost(driver)
        self._worker = Worker(Setup(**setup), self._post)
        self._has_ended = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    def greet_driver(self, driver: str) -> None:
        """Takes a new driver for the one before."""
        self._post.greet(driver)

    def put(self, driver: str, number: int, message: Message) -> None:
        """Takes a message of the driver."""
        self._post.put(driver, number, message)

    def take(self, driver: str, after: int) -> list[tuple[int, Message]]:
        """Returns messages to the driver."""
        return self._post.take(driver, after)

    def finish(self) -> None:
        """Waits until the worker has ended, after the driver's message."""
        self._has_ended.wait(END)

    def _serve(self) -> None:
        self._worker.serve()
        self._has_ended.set()
        while not self._post.is_empty and self._post.silence < LEASE:
            time.sleep(0.1)
        os._exit(0)  # the driver, if there is one, asks for another actor


def _weight(message: Message) -> int:
    return len(message.get("bytes", b""))


def _first(entries: list[tuple[int, Message]], most: int) -> Iterator[tuple[int, Message]]:
    """Yields the first messages, up to that many bytes of files."""
    for number, message in entries:
        yield number, message
        most -= _weight(message)
        if most <= 0:
            return
