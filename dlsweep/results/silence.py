"""A connection to PostgreSQL that gives up on a server that is silent, such as a suspended one.

The system answers for a suspended server: its sockets still accept data, so TCP's own timeouts see
nothing wrong. And a server that is suspended cannot end a statement that takes too long.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import Any, TypeVar

import psycopg
from sqlalchemy.engine import URL

#: The argument of libpq that says, in milliseconds, how long a server may be silent.
_LIMIT = "tcp_user_timeout"

_T = TypeVar("_T")
_Waiting = Generator[Any, Any, _T]


class ImpatientConnection(psycopg.Connection[Any]):
    """A connection that is closed when a call gets no byte for some time."""

    silence = float("inf")

    def wait(self, gen: _Waiting[_T], *args: Any, **options: Any) -> _T:
        """Waits for the server's answer.

        Raises:
            psycopg.OperationalError: If the server is silent for too long.
        """
        return super().wait(self._limited(gen), *args, **options)

    def _limited(self, gen: _Waiting[_T]) -> _Waiting[_T]:
        heard = time.monotonic()
        try:
            state = next(gen)
            while True:
                ready = yield state  # psycopg also sends when nothing has come for 0.1 s
                if ready:
                    heard = time.monotonic()
                elif time.monotonic() - heard > self.silence:
                    self.close()  # SQLAlchemy takes a closed connection for a lost one
                    raise psycopg.OperationalError(f"no answer for {self.silence:g} s")
                state = gen.send(ready)
        except StopIteration as done:
            answer: _T = done.value
            return answer


def connector(address: URL, options: dict[str, Any]) -> Callable[[], ImpatientConnection]:
    """Returns a function that connects to a server, as SQLAlchemy's ``creator``.

    Args:
        address: The server; its query may say ``tcp_user_timeout``, in milliseconds.
        options: Further arguments of libpq.
    """
    arguments, known = address.get_dialect()().create_connect_args(address)
    options = {**options, **known}
    seconds = int(options[_LIMIT]) / 1000

    def connect() -> ImpatientConnection:
        connection = ImpatientConnection.connect(*arguments, **options)
        connection.silence = seconds or float("inf")  # 0 is libpq's word for the default
        return connection

    return connect
