"""``python -m dlsweep ui``: starts the report, MLflow, TensorBoard and Optuna's dashboard."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from types import FrameType
from typing import Any

from omegaconf import OmegaConf

from dlsweep.errors import ConfigError, DlsweepError
from dlsweep.folders.rundir import RunDir
from dlsweep.folders.studydir import StudyDir, studies_in
from dlsweep.machine.imports import require_package
from dlsweep.security import addresses
from dlsweep.security.secrets import resolved
from dlsweep.trackers.mlflow.moved import follow_move
from dlsweep.trackers.mlflow.pages import run_page, study_page
from dlsweep.trackers.mlflow.store import database_of
from dlsweep.trackers.views import synced_trackers

_HOST = "127.0.0.1"
#: Seconds that a dashboard may take to start, and to stop.
_START_PATIENCE, _STOP_PATIENCE = 120.0, 5.0
#: If TensorFlow is installed, TensorBoard would import it, which takes seconds and 600 MB.
_TENSORBOARD = (
    "import sys, types; sys.modules['tensorboard.compat.notf'] = types.ModuleType('notf');"
    "from tensorboard.main import run_main; run_main()"
)
#: The storage URL may contain a password, so it is passed in the environment.
_OPTUNA = (
    "import os, sys; from optuna_dashboard import run_server;"
    "run_server(os.environ.pop('DLSWEEP_STORAGE'), host=sys.argv[1], port=int(sys.argv[2]))"
)


@dataclass
class Dashboard:
    """A dashboard's process.

    Attributes:
        name: The name to print.
        package: The package that must be installed.
        command: The arguments after ``python`` that start it, without the port, which is last.
        environment: Its environment variables.
        address: Its URL; empty until it has started.
        page: What to open there: the part of the address that follows.
    """

    name: str
    package: str
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    address: str = ""
    page: str = ""


def find_dashboards(folder: Path, tools: Sequence[str] = ()) -> list[Dashboard]:
    """Returns the dashboards of a folder.

    Args:
        folder: A study folder, a run folder, or a folder of studies.
        tools: ``report``, ``mlflow``, ``tensorboard``, ``optuna``; empty means all with data.

    Raises:
        ConfigError: If a requested tool has no data there.
        MissingExtraError: If its package is not installed.
    """
    found = {name: _FINDERS[name](folder.absolute()) for name in tools or _FINDERS}
    for name in [name for name in tools if not found[name]]:
        raise ConfigError(
            f"{folder} has nothing for {name}.\n"
            "Expected a study folder, or a folder of studies:  --folder outputs/mnist"
        )
    dashboards = [one for ones in found.values() for one in ones]
    if not dashboards:
        raise ConfigError(
            f"{folder} contains no study and no runs.\n"
            "Type a study folder, or the folder of all studies:  --folder outputs/mnist"
        )
    for one in dashboards:
        require_package(one.package, f"ui {one.name.split()[0]}", one.package.replace("_", "-"))
    return dashboards


def serve(dashboards: Sequence[Dashboard]) -> None:
    """Starts dashboards, prints their addresses, and stops them all at Ctrl-C.

    Raises:
        DlsweepError: If a dashboard does not start; contains the end of its log.
    """
    with _stopped_by_signal() as is_stopped, contextlib.ExitStack() as running:
        started = [(one, running.enter_context(_started(one))) for one in dashboards]
        for one, has_come_up in started:
            while not is_stopped() and not has_come_up():
                time.sleep(0.1)
            if not is_stopped():
                print(f"{one.name:<12} {one.address}{one.page}", flush=True)
        if not is_stopped():
            print("Ctrl-C stops them.", flush=True)
        while not is_stopped():
            time.sleep(0.2)


@contextlib.contextmanager
def _started(one: Dashboard) -> Iterator[Callable[[], bool]]:
    """Starts a dashboard's process; yields a function that checks whether it answers."""
    if one.address:
        yield lambda: True
        return
    port = _free_port()
    one.address = f"http://{_HOST}:{port}"
    begun = time.monotonic()
    with TemporaryFile() as said:
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, *one.command, str(port)],
            env={**os.environ, **one.environment},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )

        def has_come_up() -> bool:
            if process.poll() is not None or time.monotonic() - begun > _START_PATIENCE:
                said.seek(0)
                tail = said.read().decode(errors="replace")[-2000:]
                raise DlsweepError(f"{one.name} did not start:\n{tail}")
            return _answers(port)

        try:
            yield has_come_up
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a process and all its children."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(process.pid, number)
            process.wait(_STOP_PATIENCE)


@contextlib.contextmanager
def _stopped_by_signal() -> Iterator[Callable[[], bool]]:
    received: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        received.append(number)

    before = {n: signal.signal(n, note) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind((_HOST, 0))
        return int(free.getsockname()[1])


def _answers(port: int) -> bool:
    try:
        socket.create_connection((_HOST, port), 1).close()
    except OSError:
        return False
    return True


def _tracking(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yields the trackers of every study and every single run."""
    for study in studies_in(folder):
        yield study.path, study.info()["tracking"]
    runs = ("run.json", "runs/*/run.json", "*/runs/*/run.json")
    for file in (file for pattern in runs for file in folder.glob(pattern)):
        yield file.parent.absolute(), RunDir(file.parent).info().tracking


def _report(folder: Path) -> list[Dashboard]:
    if not studies_in(folder):
        return []
    return [Dashboard("report", "dlsweep", ["-m", "dlsweep.results.report.live", str(folder)])]


def _mlflow(folder: Path) -> list[Dashboard]:
    """Returns a dashboard for each store. If it has one study, or the run, it opens on that."""
    stores: dict[str, list[str]] = {}
    for path, tracking in _tracking(folder):
        if options := tracking.get("mlflow"):
            addresses.refuse_unknown({"tracking": {"mlflow": options}}, path)
            pages = stores.setdefault(OmegaConf.create(options).tracking_uri, [])
            if path == folder or StudyDir(path).info_file.exists():
                pages.append(_mlflow_page(path))
    return [_mlflow_at(uri, pages[0] if len(pages) == 1 else "") for uri, pages in stores.items()]


def _mlflow_page(path: Path) -> str:
    study = StudyDir(path)
    if not study.info_file.exists():
        return run_page(synced_trackers(RunDir(path)).get("mlflow", ({}, {}))[1])
    return study_page(study.info(), synced_trackers(study).get("mlflow", ({}, {}))[1])


def _mlflow_at(uri: str, page: str) -> Dashboard:
    database = database_of(uri)
    if database is None:
        return Dashboard("mlflow", "mlflow", [], address=uri.rstrip("/"), page=page)
    follow_move(database)
    flags = ["--backend-store-uri", uri, "--host", _HOST, "--workers", "1", "--port"]
    return Dashboard(
        "mlflow",
        "mlflow",
        ["-m", "mlflow", "server", *flags],
        # Without it, MLflow starts a second pool of processes for jobs.
        {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        page=page,
    )


def _tensorboard(folder: Path) -> list[Dashboard]:
    places = [folder / "tensorboard", *folder.glob("*/tensorboard"), *folder.glob("runs/*/*board")]
    if not any(place.is_dir() for place in places):
        return []
    shown = folder / "tensorboard" if (folder / "tensorboard").is_dir() else folder
    flags = ["--logdir", str(shown), "--host", _HOST, "--port"]
    return [Dashboard("tensorboard", "tensorboard", ["-c", _TENSORBOARD, *flags])]


def _optuna(folder: Path) -> list[Dashboard]:
    """Returns a dashboard for each storage; a study has its own storage by default."""
    storages: dict[str, list[str]] = {}
    for study in studies_in(folder):
        record = study.record()
        storages.setdefault(resolved(record["storage"]), []).append(record["name"])
    return [
        Dashboard(
            f"optuna {', '.join(names)}",
            "optuna_dashboard",
            ["-c", _OPTUNA, _HOST],
            {"DLSWEEP_STORAGE": storage},
        )
        for storage, names in storages.items()
    ]


_FINDERS: dict[str, Callable[[Path], list[Dashboard]]] = {
    "report": _report,
    "mlflow": _mlflow,
    "tensorboard": _tensorboard,
    "optuna": _optuna,
}
#: The dashboards that can be requested.
TOOLS = tuple(_FINDERS)
