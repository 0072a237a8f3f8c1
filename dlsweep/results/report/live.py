"""Serves reports while sweeps run; ``python -m dlsweep ui`` starts it.

It listens on 127.0.0.1, reads studies and writes nothing. Each study has a page, which asks for
fresh data every few seconds.
"""

from __future__ import annotations

import html
import json
import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, urlsplit

from dlsweep.errors import DlsweepError
from dlsweep.folders.studydir import StudyDir, studies_in
from dlsweep.results.report.page import page, page_data
from dlsweep.results.tables import Finished

_HOST = "127.0.0.1"
_TYPES = {"html": "text/html; charset=utf-8", "json": "application/json"}


class Reports(ThreadingHTTPServer):
    """The server of the reports of a folder.

    Args:
        folder: A study folder, or a folder of studies.
        port: The port on 127.0.0.1; 0 takes a free one.
    """

    daemon_threads = True

    def __init__(self, folder: Path, port: int) -> None:
        super().__init__((_HOST, port), _Handler)
        self._folder = folder
        self._one_by_one = threading.Lock()

    @property
    def hosts(self) -> set[str]:
        """The names of this server in requests. Another site's page would use that site's name."""
        return {f"{name}:{self.server_port}" for name in (_HOST, "localhost")}

    def answer(self, path: str) -> tuple[str, str] | None:
        """Returns ``html`` or ``json``, and the text at a path; None if there is nothing.

        Raises:
            DlsweepError: If a study cannot be read.
        """
        studies = {quote(study.path.name, safe=""): study for study in studies_in(self._folder)}
        name, _, rest = path.removeprefix("/").partition("/")
        if not name and len(studies) != 1:
            return "html", _index(list(studies.values()))
        study = studies.get(name) if name else next(iter(studies.values()))
        if study is None or rest not in ("", "data"):
            return None
        with self._one_by_one:
            data = page_data([Finished(study)], beside=None)
        if rest:
            return "json", json.dumps(data, separators=(",", ":"), allow_nan=False)
        return "html", page(data, live=f"/{quote(study.path.name, safe='')}/data")


class _Handler(BaseHTTPRequestHandler):
    server: Reports

    def do_GET(self) -> None:
        """Answers a request."""
        if self.headers.get("Host") not in self.server.hosts:
            self._send(HTTPStatus.FORBIDDEN, "text/plain", "This server has another name.")
            return
        try:
            found = self.server.answer(urlsplit(self.path).path)
        except DlsweepError as error:
            self._send(HTTPStatus.INTERNAL_SERVER_ERROR, "text/plain", str(error))
            return
        if found is None:
            self._send(HTTPStatus.NOT_FOUND, "text/plain", "There is no study of this name.")
        else:
            self._send(HTTPStatus.OK, _TYPES[found[0]], found[1])

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing: a page asks every few seconds."""

    def _send(self, status: HTTPStatus, kind: str, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(body)


def _index(studies: list[StudyDir]) -> str:
    lines = (
        f'<li><a href="/{quote(study.path.name, safe="")}">{html.escape(study.path.name)}</a></li>'
        for study in studies
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><meta charset="utf-8"><title>Studies</title>'
        '<meta name="color-scheme" content="light dark">'
        f"<h1>Studies</h1><ul>{''.join(lines)}</ul></html>"
    )


if __name__ == "__main__":
    Reports(Path(sys.argv[1]), int(sys.argv[2])).serve_forever()
