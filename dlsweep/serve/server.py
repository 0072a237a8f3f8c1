"""The server's process: its socket, its start and its graceful stop."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import uvicorn

from dlsweep.errors import ServeError
from dlsweep.security.printable import printable
from dlsweep.serve.app import make_app
from dlsweep.serve.models import find, load

#: Seconds that requests in flight may take after a signal to stop.
_STOP_PATIENCE = 30
#: Connections that wait for the server to take them.
_BACKLOG = 2048


def serve(folder: Path, name: str | None, host: str, port: int, max_body: int) -> None:
    """Serves an exported model until Ctrl-C or SIGTERM; requests in flight are answered.

    Args:
        folder: The folder of a format, with its versions, or of one version.
        name: The model's name in addresses; by default, the export's.
        host: The address to listen on.
        port: The port; 0 takes a free one.
        max_body: The most bytes of a request's body.

    Raises:
        ExportError: If there is no model, or it is damaged.
        MissingExtraError: If the model's runtime is not installed.
        ServeError: If the name or the address cannot be used.
    """
    found = find(folder)
    name = name or found.name
    if not name or set(name) & set("/:"):
        raise ServeError(f"--name: Received {name!r}. Expected a name without '/' and ':'.")
    with _listening(host, port) as listener:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        served = load(found, name)
        numbers = ", ".join(map(str, served.versions))
        versions = f"versions {numbers}" if len(served.versions) > 1 else f"version {numbers}"
        address = f"{_address(listener)}/v1/models/{quote(name)}:predict"
        print(f"{printable(name)}, {versions}:  {address}")
        if host not in ("127.0.0.1", "localhost", "::1"):
            print("Other machines can reach it, and it asks nobody for a password.")
        print("Ctrl-C stops it.", flush=True)
        _run(
            uvicorn.Config(
                make_app(served, max_body),
                lifespan="off",
                ws="none",
                access_log=False,
                log_level="warning",
                server_header=False,
                proxy_headers=False,
                backlog=_BACKLOG,
                timeout_graceful_shutdown=_STOP_PATIENCE,
            ),
            listener,
        )


def _run(config: uvicorn.Config, listener: socket.socket) -> None:
    # uvicorn raises the signal again when it has stopped, which would end with a traceback.
    before = {n: signal.signal(n, lambda *_: None) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        uvicorn.Server(config).run(sockets=[listener])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """Takes the port at once, so that a port in use is said before a model is loaded."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with contextlib.ExitStack() as stack:
            listener = stack.enter_context(socket.socket(family, kind, protocol))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(_BACKLOG)
            kept = stack.pop_all()
    except OSError as error:
        raise ServeError(
            f"The server cannot listen on {host}:{port}: {error.strerror}.\n"
            f"Type another port:  --port {port + 1 if 1024 <= port < 65535 else 8501}"
        ) from None
    with kept:
        yield listener


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
