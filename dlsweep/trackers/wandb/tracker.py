"""The W&B tracker: offline files, or runs on the W&B server."""

from __future__ import annotations

import contextlib
import netrc
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal
from urllib.parse import urlsplit

from dlsweep.errors import ConfigError, TrackerError
from dlsweep.folders import origin
from dlsweep.folders.lineage import in_words, lineage_of
from dlsweep.folders.rundir import COMPLETED, FAILURES, Media, Record, Result, RunDir
from dlsweep.folders.studydir import StudyDir
from dlsweep.machine.imports import require_package
from dlsweep.trackers.base import Point, Readable, Registry, State, ViewLostError
from dlsweep.trackers.checkpoints import Keep, check_keep
from dlsweep.trackers.exports import ExportedVersion
from dlsweep.trackers.files import beside, described_in, home
from dlsweep.trackers.names import run_name
from dlsweep.trackers.params import params_of
from dlsweep.trackers.server import check_answers
from dlsweep.trackers.wandb.artifacts import (
    add_checkpoint,
    add_export,
    add_trace,
    has_export,
    missing_artifacts,
)
from dlsweep.trackers.wandb.curve import log_curve
from dlsweep.trackers.wandb.offline import offline_folders, read_offline, wait_for_end

if TYPE_CHECKING:
    import wandb

Mode = Literal["online", "offline"]
_SERVER = "https://api.wandb.ai"
#: Columns that W&B or the mirror fills itself, and what a metric of such a name begins with.
_RESERVED = {"step", "_step", "_runtime", "_timestamp", "_wandb", "status", "reason"}
_METRIC = "metric/"


@contextlib.contextmanager
def _service() -> Iterator[None]:
    """Drops W&B's service and the runs open in it, if the service has died."""
    try:
        yield
    except Exception as error:
        from wandb.sdk.mailbox import HandleAbandonedError, MailboxClosedError

        dead = (ConnectionError, HandleAbandonedError, MailboxClosedError)
        if isinstance(error, dead):
            import wandb

            WandbTracker._open.clear()
            with contextlib.suppress(*dead):
                wandb.teardown()  # it does not answer; the next call starts another
        raise


class WandbTracker(Readable, Registry):
    """Logs each run to a W&B run. A study is a group; a trial has the job type ``trial``.

    An ended study has a run of its own in the group, with the best value over its trials.

    A record is one row of the history. W&B only accepts rows in ascending order, so its own step
    counts the rows. The record's step is the column ``step``, the x axis of every chart. At the
    end, the summary has the returned metrics and the status, so that W&B's table can be sorted by
    the objective. The composed config and the origin are files of the run.

    Offline, the files are in ``<study>/wandb/``, or in ``<run>/wandb/`` for a single run;
    ``wandb sync`` uploads them. W&B loses the last rows of a killed process. Files that were not
    closed, or that contain other rows than were synced, are removed and written again from the run
    folder. A resumed run continues under its id, in a second folder.

    Args:
        project: W&B's project.
        entity: W&B's team or user; None means the key's own.
        mode: ``online`` or ``offline``; None means ``WANDB_MODE`` if that is set, ``online`` if
            there is a W&B API key, else ``offline``.
        checkpoint: Which checkpoint of a completed run to upload as an artifact: ``best``, ``last``
            or ``none``.

    Raises:
        ConfigError: If the mode or the checkpoint has another value.
    """

    #: Open W&B runs. They and W&B's service outlive a tracker that failed.
    _open: ClassVar[dict[str, wandb.Run]] = {}

    def __init__(
        self,
        project: str,
        entity: str | None = None,
        mode: Mode | None = None,
        checkpoint: Keep = "none",
    ) -> None:
        check_keep("wandb", checkpoint)
        self.server = os.environ.get("WANDB_BASE_URL", _SERVER)
        chosen = mode or os.environ.get("WANDB_MODE") or ("online" if self._key() else "offline")
        if chosen not in ("online", "offline"):
            raise ConfigError(
                f"tracking.wandb.mode: Received {chosen!r}. Expected 'online' or 'offline'."
            )
        self.project = project
        self._checkpoint = checkpoint
        self.entity = entity
        self.mode: Mode = "online" if chosen == "online" else "offline"
        self.view = "wandb leet {folder}/wandb"
        if chosen == "online":
            self.view = f"the project {project} on {self.server}"

    def check(self) -> None:
        """Checks that wandb is installed and, online, that there is a key and a server.

        Raises:
            MissingExtraError: If wandb is not installed.
            TrackerError: If there is no key, or the server does not answer.
        """
        require_package("wandb", "tracking=wandb")
        if self.mode == "online":
            self._check_online()

    def preload(self) -> None:
        """Imports wandb."""
        import wandb  # noqa: F401

    @_service()
    def log_study(self, study: StudyDir, info: dict[str, Any], state: State) -> None:
        """Logs the best value over the trials of an ended study."""
        log_curve(study, info, state, **self._place(), settings=_settings())

    @_service()
    def start(self, run: RunDir, parent: State, state: State) -> None:  # noqa: ARG002
        """Opens the run, or checks that its files contain what was synced.

        Raises:
            ViewLostError: If they do not, or if the run was synced in the other mode.
        """
        if not state:
            self.remove(run, state)
            state.update(mode=self.mode, rows=0)
            self._opened(run, state)
        elif state["mode"] != self.mode:
            raise ViewLostError(f"{run.path} was synced {state['mode']}. Expected {self.mode}.")
        elif self.mode == "offline":
            self._require(run, state)

    @_service()
    def log(self, run: RunDir, records: list[Record], state: State) -> None:
        """Logs one row for each record."""
        opened = self._opened(run, state)
        for record in records:
            media = {name: _media(run, one) for name, one in record.media.items()}
            named = {_column(name): one for name, one in {**record.metrics, **media}.items()}
            row = {**named, "step": record.step, "_timestamp": record.time}
            opened.log(row, step=state["rows"], commit=True)
            state["rows"] += 1

    @_service()
    def finish(self, run: RunDir, result: Result, state: State) -> None:
        """Sets the summary, adds log, trace and checkpoint, and finishes the run."""
        opened = self._opened(run, state)
        attrs = run.user_attrs()
        if lineage := lineage_of(run):
            attrs = {**attrs, "lineage": in_words(lineage)}
        metrics = {_column(name): value for name, value in result.metrics.items()}
        opened.summary.update(
            {**attrs, **metrics, "status": result.status, "reason": result.reason}
        )
        opened.tags = (result.status,)
        self._add_log(run, opened, state)
        add_trace(opened, run, state)
        if result.status in COMPLETED:
            add_checkpoint(opened, run, self._checkpoint, state)
        self._close(run, int(result.status in FAILURES))

    def read(self, run: RunDir, state: State) -> Iterator[Point]:  # noqa: ARG002
        """Yields the history of the offline files.

        Raises:
            TrackerError: If the run was synced online; the W&B server is not queried.
        """
        if self.mode == "online":
            raise TrackerError("Runs on the W&B server cannot be compared; offline files can.")
        for folder in offline_folders(run):
            for record in read_offline(folder):
                if record["type"] == "history":
                    row = record["history"]["item"]
                    yield from _points(row)

    def missing(self, run: RunDir, result: Result, state: State) -> Iterator[str]:  # noqa: ARG002
        """Checks that the offline files contain trace and checkpoint."""
        yield from missing_artifacts(run, result, self._checkpoint)

    @_service()
    def remove(self, run: RunDir, state: State) -> None:  # noqa: ARG002
        """Finishes the run and removes its offline files."""
        self._close(run, 0)
        for folder in offline_folders(run):
            shutil.rmtree(folder)

    @_service()
    def register(
        self, run: RunDir, export: ExportedVersion, name: str, alias: str | None, state: State
    ) -> str:
        """Logs an exported model as an artifact of its run."""
        if not has_export(run, export, name, alias):
            add_export(self._opened(run, state), run, export, name, alias)
            result = run.result()
            self._close(run, int(result is not None and result.status in FAILURES))
        return f"{name}:{alias or 'latest'}"

    def _opened(self, run: RunDir, state: State) -> wandb.Run:
        """Returns the W&B run, opened if needed."""
        info = run.info()
        if info.id in self._open:
            return self._open[info.id]
        import wandb

        os.environ.pop("WANDB_SERVICE", None)  # another process's service, which may end first
        folder = beside(run, "wandb")
        folder.mkdir(parents=True, exist_ok=True)
        opened = wandb.init(
            **self._place(),
            dir=folder.parent,
            id=info.id,
            name=run_name(info),
            group=info.study,
            job_type="run" if info.number is None else "trial",
            config={**params_of(run), **_origin(run)},
            resume="allow",
            reinit="create_new",
            settings=_settings(),
        )
        if state["rows"] == 0:
            opened.define_metric("*", step_metric="step")
            for base, file in described_in(run):
                _keep(opened, base, file)
        if self.mode == "online":
            self.view = opened.project_url or self.view
        self._open[info.id] = opened
        return opened

    def _place(self) -> dict[str, Any]:
        return {"project": self.project, "entity": self.entity, "mode": self.mode}

    def _add_log(self, run: RunDir, opened: wandb.Run, state: State) -> None:
        """Adds what the run has printed since its last synced end."""
        if not run.log_file.exists():
            return
        with run.log_file.open("rb") as file:
            file.seek(state.get("log", 0))
            if text := file.read().decode(errors="replace"):
                opened.write_logs(text)
            state["log"] = file.tell()

    def _close(self, run: RunDir, code: int) -> None:
        if opened := self._open.pop(run.info().id, None):
            opened.finish(exit_code=code)
            if self.mode == "offline":
                wait_for_end(offline_folders(run)[-1:])

    def _require(self, run: RunDir, state: State) -> None:
        self._close(run, 0)
        rows, whole = 0, True
        for folder in offline_folders(run):
            kinds = [record["type"] for record in read_offline(folder)]
            rows += kinds.count("history")
            whole &= "exit" in kinds
        if rows != state["rows"] or not whole:
            end = "" if whole else " and no end"
            raise ViewLostError(
                f"W&B's files of {run.path} contain {rows} rows{end}. Expected {state['rows']}."
            )

    def _check_online(self) -> None:
        way_out = "Or write files, for later:  tracking.wandb.mode=offline"
        if not self._key():
            raise TrackerError(
                f"W&B has no key for {urlsplit(self.server).hostname}.\n"
                f"Type  wandb login\n{way_out}"
            )
        check_answers("W&B", self.server, way_out)

    def _key(self) -> bool:
        """Whether W&B will find an API key."""
        if os.environ.get("WANDB_API_KEY"):
            return True
        try:
            logins = netrc.netrc(os.environ.get("NETRC"))
        except (OSError, netrc.NetrcParseError):
            return False
        return logins.authenticators(urlsplit(self.server).netloc) is not None


def _origin(run: RunDir) -> dict[str, Any]:
    """Returns the origin of the run, without the list of packages."""
    found = origin.read(home(run))
    return {f"origin.{name}": value for name, value in found.items() if name != "packages"}


def _keep(opened: wandb.Run, base: Path, file: Path) -> None:
    """Copies a file to W&B's run; W&B itself would link it, with a warning for each."""
    kept = Path(opened.dir, file.relative_to(base))
    kept.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, kept)
    opened.save(kept, opened.dir, policy="now", glob=False)


def _media(run: RunDir, media: Media) -> Any:
    import wandb

    if media["kind"] == "image":
        return wandb.Image(str(run.path / media["file"]))
    if media["kind"] == "histogram":
        return wandb.Histogram(np_histogram=(media["counts"], media["edges"]))
    if media["kind"] == "table":
        return wandb.Table(columns=media["columns"], data=media["rows"])
    return wandb.Table(columns=["text"], data=[[media["text"]]])


def _points(row: dict[str, Any]) -> Iterator[Point]:
    """Yields the numbers of a row; NaN and infinity are words there."""
    for name, value in row.items():
        if name in _RESERVED:
            continue
        if isinstance(value, int | float) or value in ("NaN", "Infinity", "-Infinity"):
            metric = name.removeprefix(_METRIC)
            yield row["step"], metric if metric in _RESERVED else name, float(value)


def _column(metric: str) -> str:
    """Returns the column of a metric; a name that W&B uses itself becomes ``metric/<name>``."""
    return f"{_METRIC}{metric}" if metric in _RESERVED else metric


def _settings() -> wandb.Settings:
    """Returns settings that keep the mirror's own output, load and command out of the run."""
    import wandb

    return wandb.Settings(
        console="off",
        disable_code=True,
        disable_git=True,
        silent=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_save_requirements=False,
    )
