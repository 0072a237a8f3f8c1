"""Checks that a tracker's server can be reached."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

from dlsweep.errors import TrackerError

_CONNECT_SECONDS = 3.0


def check_answers(name: str, uri: str, way_out: str) -> None:
    """Raises TrackerError if nothing listens at a server's address.

    Args:
        name: The tracker's name.
        uri: The address; without a port, the scheme's default port is used.
        way_out: What the user can do or type then.
    """
    parts = urlsplit(uri)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname, port), _CONNECT_SECONDS).close()
    except OSError as error:
        raise TrackerError(
            f"The {name} server {parts.hostname}:{port} does not answer: {error}.\n{way_out}"
        ) from None
