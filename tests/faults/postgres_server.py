"""A PostgreSQL server of the tests' own, in a folder of its own, that can be killed."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import psycopg
import pytest

#: Who runs the server when root runs the tests: PostgreSQL refuses root.
USER = "postgres"


class Server:
    """A running server; its superuser needs no password."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self.programs = programs
        self._data = folder / "data"
        self._folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self._as_user("initdb", "-D", str(self._data), "-A", "trust", "-U", USER, "--no-sync")

    def url(self, database: str, user: str = USER) -> str:
        return f"postgresql+psycopg://{user}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        options = f"-p {self.port} -k {self._folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        log = str(self._folder / "log")
        self._as_user("pg_ctl", "-D", str(self._data), "-w", "-l", log, "-o", options, "start")

    @contextlib.contextmanager
    def killed(self) -> Iterator[None]:
        """Kills the server with all its processes, as a power cut would; at the end it is back."""
        self.kill()
        try:
            yield
        finally:
            self.start()

    @contextlib.contextmanager
    def suspended(self) -> Iterator[None]:
        """Suspends all its processes: the system still accepts connections and data for it."""
        self._head.suspend()  # first, so that it starts no more
        processes = [*self._head.children(recursive=True), self._head]
        try:
            for process in processes:
                process.suspend()
            yield
        finally:
            for process in processes:
                process.resume()

    @property
    def _head(self) -> psutil.Process:
        return psutil.Process(int((self._data / "postmaster.pid").read_text().split()[0]))

    def kill(self) -> None:
        processes = [self._head, *self._head.children(recursive=True)]
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(processes)

    def create(self, database: str) -> str:
        """Creates a database; returns its URL."""
        self.ask(USER, f"CREATE DATABASE {database}")
        return self.url(database)

    def ask(self, database: str, query: str) -> list[tuple[object, ...]]:
        address = f"host=127.0.0.1 port={self.port} user={USER} dbname={database}"
        with psycopg.connect(address, autocommit=True) as connection:
            cursor = connection.execute(query.encode())
            return cursor.fetchall() if cursor.description else []

    def demand_password(self, user: str, password: str) -> None:
        """Creates a user who must give a password, also on this machine."""
        self.ask(USER, f"CREATE ROLE {user} LOGIN SUPERUSER PASSWORD '{password}'")
        rules = self._data / "pg_hba.conf"
        rules.write_text(f"host all {user} all scram-sha-256\n{rules.read_text()}")
        self.ask(USER, "SELECT pg_reload_conf()")

    def _as_user(self, program: str, *arguments: str) -> None:
        command: Sequence[str] = [str(self.programs / program), *arguments]
        if os.getuid() == 0:
            command = ["runuser", "-u", USER, "--", *command]
        done = subprocess.run(
            command, cwd=self._folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        log = self._folder / "log"
        assert done.returncode == 0, log.read_text()[-2000:] if log.exists() else done.stdout


@contextlib.contextmanager
def running_server() -> Iterator[Server]:
    """Yields a running server; without PostgreSQL, the test is skipped."""
    found = shutil.which("initdb")
    places = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not places:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="dlsweep-postgres-"))
    if os.getuid() == 0:
        owner = pwd.getpwnam(USER)
        os.chown(folder, owner.pw_uid, owner.pw_gid)
    server = Server(places[-1], folder)
    try:
        server.start()
        yield server
        server.kill()
    finally:
        shutil.rmtree(folder)
