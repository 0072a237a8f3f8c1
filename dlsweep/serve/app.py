"""TensorFlow Serving's REST paths, answered by exported models.

::

    GET   /v1/models/NAME[/versions/V]             the status
    GET   /v1/models/NAME[/versions/V]/metadata    the signatures
    POST  /v1/models/NAME[/versions/V]:predict     predictions
    GET   /health                                  200 while it serves
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from concurrent.futures import ThreadPoolExecutor

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from dlsweep.machine.devices import cpu_count
from dlsweep.runtimes.base import ExportedModel, InputError
from dlsweep.serve import contract
from dlsweep.serve.models import Served

_MODEL = r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_PREDICT = re.compile(rf"{_MODEL}:(?P<method>predict|classify|regress)", re.IGNORECASE | re.ASCII)
_ABOUT = re.compile(rf"{_MODEL}(?P<metadata>/metadata)?", re.IGNORECASE | re.ASCII)
_MAX_INT64 = 2**63 - 1
#: The bytes of a small body, and the seconds of a quick answer.
_SMALL, _QUICK = 16 << 10, 0.001


class _HttpError(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def make_app(served: Served, max_body: int) -> Starlette:
    """Makes the server's application.

    Args:
        served: The model.
        max_body: The most bytes of a request's body; a longer one is answered with 413.
    """

    async def health(request: Request) -> Response:  # noqa: ARG001 - Starlette passes it
        return _json(b'{"status": "ok"}')

    return Starlette(
        routes=[
            Route("/health", health, methods=["GET"]),
            Route("/{path:path}", _Rest(served, max_body)),
        ],
        exception_handlers={500: _broken},
    )


class _Rest:
    """Answers every path but that of the health; models that take a while run in threads."""

    def __init__(self, served: Served, max_body: int) -> None:
        self._served = served
        self._max_body = max_body
        self._pool = ThreadPoolExecutor(cpu_count(), "model")
        self._took: dict[int, float] = {}  # the seconds of each model's last small body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response = _json(await self._answer(Request(scope, receive)))
        except InputError as error:
            response = _json(contract.error(str(error)), 400)
        except _HttpError as error:
            response = _json(contract.error(str(error)), error.status)
        except ClientDisconnect:
            return  # nobody reads it
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> bytes:
        path = request.scope["path"]  # that of request.url depends on the client's Host
        if request.method == "GET" and (found := _ABOUT.fullmatch(path)):
            return _about(self._served, found)
        if request.method == "POST" and (found := _PREDICT.fullmatch(path)):
            model = _model(self._served, found)
            return await self._predict(model, await _read(request, self._max_body))
        if path.lower().startswith("/v1/"):
            raise _HttpError(400, f"Malformed request: {request.method} {path}")
        raise _HttpError(404, f"Not found: {path}. Expected /v1/models/{self._served.name}:predict")

    async def _predict(self, model: ExportedModel, body: bytes) -> bytes:
        """Answers a small body at once if the last one was quick, else in a thread.

        A thread costs more than a quick model; the event loop waits no longer than for one answer.
        """
        if len(body) <= _SMALL and self._took.get(id(model), _QUICK) < _QUICK:
            return self._timed(model, body)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, self._timed, model, body)

    def _timed(self, model: ExportedModel, body: bytes) -> bytes:
        start = time.perf_counter()
        try:
            return _predict(model, body)
        finally:
            if len(body) <= _SMALL:
                self._took[id(model)] = time.perf_counter() - start


def _broken(request: Request, error: Exception) -> Response:  # noqa: ARG001 - it is in the log
    return _json(contract.error("The model failed; the server's log says why."), 500)


def _json(body: bytes, status: int = 200) -> Response:
    return Response(body, status, media_type="application/json")


def _about(served: Served, found: re.Match[str]) -> bytes:
    version = _version(served, found)
    if found["metadata"]:
        return json.dumps(served.metadata(version or served.newest), indent=1).encode()
    return json.dumps(served.status(version), indent=1).encode()


def _version(served: Served, found: re.Match[str]) -> int | None:
    """Returns the version that a path asks for, or None if it asks for none.

    Raises:
        _HttpError: If there is no such model or version.
    """
    if found["label"]:
        raise _HttpError(400, f"Unrecognized servable version label: {found['label']}")
    text = found["version"]
    if text and (len(text) > len(str(_MAX_INT64)) or int(text) > _MAX_INT64):
        raise _HttpError(400, f"Failed to convert version: {text[:40]} to numeric.")
    version = int(text) if text else None
    if found["name"] != served.name or version not in (None, *served.versions):
        raise _HttpError(404, _not_found(found, version))
    return version


def _not_found(found: re.Match[str], version: int | None) -> str:
    name = found["name"]
    if found.re is _ABOUT and not found["metadata"]:
        which = "any versions" if version is None else f"version {version}"
        return f"Could not find {which} of model {name}"
    asked = f"Latest({name})" if version is None else f"Specific({name}, {version})"
    return f"Servable not found for request: {asked}"


def _model(served: Served, found: re.Match[str]) -> ExportedModel:
    version = _version(served, found)
    if found["method"].lower() != "predict":
        raise _HttpError(
            501,
            f"Received {found['method']}, which takes tf.Example. Expected :predict, with "
            '{"signature_name": "classify"} for labels.',
        )
    return served.versions[version or served.newest]


async def _read(request: Request, max_body: int) -> bytes:
    coding = request.headers.get("content-encoding", "identity")
    if coding != "identity":
        raise _HttpError(415, f"Content-Encoding: Received {coding!r}. Expected plain JSON.")
    too_long = _HttpError(
        413, f"The body is longer than {max_body} bytes. Send fewer instances at a time."
    )
    length = request.headers.get("content-length", "0")
    if len(length) > len(str(_MAX_INT64)) or int(length) > max_body:
        raise too_long
    body = bytearray()
    async for chunk in request.stream():
        if len(body) + len(chunk) > max_body:
            raise too_long
        body += chunk
    return bytes(body)


def _predict(model: ExportedModel, body: bytes) -> bytes:
    call = contract.parse(body, model.signatures)
    return contract.answer(model.run(call.signature, call.inputs), call.by_row)
