"""Runs in Weights & Biases: in files of one's own, or on its server."""

from __future__ import annotations

import contextlib
import json
import netrc
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal
from urllib.parse import urlsplit

from dlsweep.errors import ConfigError, MissingExtraError, TrackerError
from dlsweep.folders import origin
from dlsweep.folders.rundir import COMPLETED, FAILURES, Media, Record, Result, RunDir
from dlsweep.trackers.base import Point, Readable, State, ViewLostError
from dlsweep.trackers.checkpoints import Keep, check_keep, digest_of, kept_checkpoint
from dlsweep.trackers.files import beside, home
from dlsweep.trackers.params import params_of
from dlsweep.trackers.server import check_answers
from dlsweep.trackers.traces import trace_files, viewer_name

if TYPE_CHECKING:
    import wandb

Mode = Literal["online", "offline"]
_SERVER = "https://api.wandb.ai"
#: Seconds to wait for the end of an offline file; one that stays without is found later.
_END_PATIENCE = 5.0
#: The names of a run's artifacts.
_CHECKPOINT, _TRACE = "checkpoint-{}", "trace-{}"


@contextlib.contextmanager
def _service() -> Iterator[None]:
    """Lets go of W&B's service, and of the runs open in it, if it turns out to have died."""
    try:
        yield
    except Exception as error:
        from wandb.sdk.mailbox import HandleAbandonedError, MailboxClosedError

        dead = (ConnectionError, HandleAbandonedError, MailboxClosedError)
        if isinstance(error, dead):
            import wandb

            WandbTracker._open.clear()
            with contextlib.suppress(*dead):
                wandb.teardown()  # it cannot be told; the next call starts another
        raise


class WandbTracker(Readable):
    """One W&B run a run, those of a study in its group; a trial has the job type ``trial``.

    A record is one row of the history. W&B takes rows in ascending order only, so its own step
    counts the rows; the record's step is the column ``step``, which every chart has as its axis.
    At the end, the summary holds what training returned and the status, so that W&B's table
    sorts by the objective. The composed config and where it comes from are files of the run.

    Offline, the files lie in ``<study>/wandb/``, or ``<run>/wandb/`` for a run that is no trial;
    ``wandb sync`` uploads them. W&B loses the last rows of a process that is killed: files that
    were not closed, or that hold other rows than were told, are removed and written again from
    the run folder. A run that goes on continues under its id, in a second folder.

    Args:
        project: W&B's project.
        entity: W&B's team or user; None stands for that of the key.
        mode: ``online`` or ``offline``; None stands for ``WANDB_MODE`` if that is set, for
            ``online`` if W&B has a key for its server, or else for ``offline``.
        checkpoint: Which checkpoint of a completed run to keep as an artifact: ``best``, ``last``
            or ``none``.

    Raises:
        ConfigError: If the mode or the checkpoint is another.
    """

    #: W&B's service outlives a tracker that failed, and so do the runs that it has open.
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
        """Looks for the package and, to go online, for a key and the server.

        Raises:
            MissingExtraError: If wandb is not installed.
            TrackerError: If there is no key, or the server does not answer.
        """
        if find_spec("wandb") is None:
            raise MissingExtraError("wandb", "tracking=wandb")
        if self.mode == "online":
            self._check_online()

    def preload(self) -> None:
        """Imports wandb."""
        import wandb  # noqa: F401

    @_service()
    def start(self, run: RunDir, parent: State, state: State) -> None:  # noqa: ARG002
        """Opens the run, or sees that its files hold what was told.

        Raises:
            ViewLostError: If they do not, or if the run was told in the other mode.
        """
        if not state:
            self.remove(run, state)
            state.update(mode=self.mode, rows=0)
            self._opened(run, state)
        elif state["mode"] != self.mode:
            raise ViewLostError(f"{run.path} was told {state['mode']}. Expected {self.mode}.")
        elif self.mode == "offline":
            self._require(run, state)

    @_service()
    def log(self, run: RunDir, records: list[Record], state: State) -> None:
        """Adds one row a record."""
        opened = self._opened(run, state)
        for record in records:
            media = {name: _media(run, one) for name, one in record.media.items()}
            row = {**record.metrics, **media, "step": record.step, "_timestamp": record.time}
            opened.log(row, step=state["rows"], commit=True)
            state["rows"] += 1

    @_service()
    def finish(self, run: RunDir, result: Result, state: State) -> None:
        """Sets the summary, adds log, trace and checkpoint, and closes the run."""
        opened = self._opened(run, state)
        opened.summary.update({**result.metrics, "status": result.status, "reason": result.reason})
        opened.tags = (result.status,)
        self._add_log(run, opened, state)
        self._add_trace(run, opened, state)
        if result.status in COMPLETED:
            self._add_checkpoint(run, opened, state)
        self._close(run, int(result.status in FAILURES))

    def read(self, run: RunDir, state: State) -> Iterator[Point]:  # noqa: ARG002
        """Yields the history of the offline files.

        Raises:
            TrackerError: If the run was told online; W&B's server is not asked.
        """
        if self.mode == "online":
            raise TrackerError("What W&B's server holds is not compared; offline files are.")
        for folder in _folders(run):
            for record in read_offline(folder):
                if record["type"] == "history":
                    row = record["history"]["item"]
                    yield from _points(row)

    def missing(self, run: RunDir, result: Result, state: State) -> Iterator[str]:  # noqa: ARG002
        """Looks for trace and checkpoint in the offline files."""
        records = (record for folder in _folders(run) for record in read_offline(folder))
        kept = {one["artifact"]["name"] for one in records if one["type"] == "artifact"}
        expected = [_TRACE.format(run.info().id)] if trace_files(run) else []
        if result.status in COMPLETED and kept_checkpoint(run, self._checkpoint):
            expected.append(_CHECKPOINT.format(run.info().id))
        yield from (f"the artifact {name} is missing" for name in expected if name not in kept)

    @_service()
    def remove(self, run: RunDir, state: State) -> None:  # noqa: ARG002
        """Closes the run and removes its offline files."""
        self._close(run, 0)
        for folder in _folders(run):
            shutil.rmtree(folder)

    def _opened(self, run: RunDir, state: State) -> wandb.Run:
        """W&B's run, opened if it is not."""
        info = run.info()
        if info.id in self._open:
            return self._open[info.id]
        import wandb

        os.environ.pop("WANDB_SERVICE", None)  # another process's, which may end before this one
        folder = beside(run, "wandb")
        folder.mkdir(parents=True, exist_ok=True)
        opened = wandb.init(
            project=self.project,
            entity=self.entity,
            mode=self.mode,
            dir=folder.parent,
            id=info.id,
            name=f"{info.study}/{info.name}",
            group=info.study,
            job_type="run" if info.number is None else "trial",
            config={**params_of(run), **_origin(run)},
            resume="allow",
            reinit="create_new",
            settings=_settings(),
        )
        if state["rows"] == 0:
            opened.define_metric("*", step_metric="step")
            for base, file in _described_in(run):
                _keep(opened, base, file)
        if self.mode == "online":
            self.view = opened.project_url or self.view
        self._open[info.id] = opened
        return opened

    def _add_log(self, run: RunDir, opened: wandb.Run, state: State) -> None:
        """Adds what the run has printed since the last end that was told."""
        if not run.log_file.exists():
            return
        with run.log_file.open("rb") as file:
            file.seek(state.get("log", 0))
            if text := file.read().decode(errors="replace"):
                opened.write_logs(text)
            state["log"] = file.tell()

    def _add_checkpoint(self, run: RunDir, opened: wandb.Run, state: State) -> None:
        """Adds the checkpoint, unless that very one is there."""
        checkpoint = kept_checkpoint(run, self._checkpoint)
        if not checkpoint or state.get("checkpoint") == digest_of(checkpoint):
            return
        import wandb

        manifest = json.loads((checkpoint / "manifest.json").read_text())
        artifact = wandb.Artifact(_CHECKPOINT.format(run.info().id), "model", metadata=manifest)
        artifact.add_dir(str(checkpoint))
        aliases = ["latest", "best"] if self._checkpoint == "best" else ["latest"]
        opened.log_artifact(artifact, aliases=aliases)
        state["checkpoint"] = digest_of(checkpoint)

    def _add_trace(self, run: RunDir, opened: wandb.Run, state: State) -> None:
        """Adds what the profiler has written, unless those very files are there."""
        files = trace_files(run)
        sizes = {name: path.stat().st_size for name, path in files.items()}
        if not files or state.get("trace") == sizes:
            return
        import wandb

        artifact = wandb.Artifact(_TRACE.format(run.info().id), "profile")
        for name, path in files.items():
            artifact.add_file(str(path), viewer_name(name))
        opened.log_artifact(artifact)
        state["trace"] = sizes

    def _close(self, run: RunDir, code: int) -> None:
        if opened := self._open.pop(run.info().id, None):
            opened.finish(exit_code=code)
            if self.mode == "offline":
                _wait_for_end(_folders(run)[-1:])

    def _require(self, run: RunDir, state: State) -> None:
        self._close(run, 0)
        rows, whole = 0, True
        for folder in _folders(run):
            kinds = [record["type"] for record in read_offline(folder)]
            rows += kinds.count("history")
            whole &= "exit" in kinds
        if rows != state["rows"] or not whole:
            end = "" if whole else " and no end"
            raise ViewLostError(
                f"W&B's files of {run.path} hold {rows} rows{end}. Expected {state['rows']}."
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
        """Whether W&B will find a key where it looks itself."""
        if os.environ.get("WANDB_API_KEY"):
            return True
        try:
            logins = netrc.netrc(os.environ.get("NETRC"))
        except (OSError, netrc.NetrcParseError):
            return False
        return logins.authenticators(urlsplit(self.server).netloc) is not None


def read_offline(folder: Path) -> Iterator[dict[str, Any]]:
    """Reads an offline run with W&B's own reader.

    Args:
        folder: ``offline-run-<time>-<id>``.

    Yields:
        Each record that is whole, as ``wandb leet inspect --json`` prints it.
    """
    from wandb.util import get_core_path

    for file in folder.glob("*.wandb"):
        flags = ["--no-observability", "--json", "--run-file", str(file), str(folder.parent)]
        with subprocess.Popen(  # noqa: S603
            [get_core_path(), "leet", "inspect", *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # says that the file of a killed process is incomplete
        ) as reader:
            assert reader.stdout
            for line in reader.stdout:
                yield json.loads(line)


def _origin(run: RunDir) -> dict[str, Any]:
    """Where the run comes from; the packages stand in the study's folder."""
    found = origin.read(home(run))
    return {f"origin.{name}": value for name, value in found.items() if name != "packages"}


def _described_in(run: RunDir) -> Iterator[tuple[Path, Path]]:
    """The files that say what the run is: the composed config and where it comes from."""
    yield from ((run.path, file) for file in sorted(run.config_file.parent.glob("*.yaml")))
    for name in (origin.ORIGIN, origin.DIFF):
        if (file := home(run) / name).exists():
            yield home(run), file


def _wait_for_end(folders: list[Path]) -> None:
    """Waits for the last record: W&B's service writes it after it has said that it has."""
    deadline = time.monotonic() + _END_PATIENCE
    while time.monotonic() < deadline:
        if all("exit" in (one["type"] for one in read_offline(folder)) for folder in folders):
            return
        time.sleep(0.02)


def _keep(opened: wandb.Run, base: Path, file: Path) -> None:
    """Makes a file one of W&B's run; copied by hand, as W&B warns of each that it links itself."""
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
    """The numbers of a row; those that are no number in JSON are words there."""
    for name, value in row.items():
        if isinstance(value, int | float) or value in ("NaN", "Infinity", "-Infinity"):
            yield row["step"], name, float(value)


def _folders(run: RunDir) -> list[Path]:
    """The offline files of a run: a folder for each time that it was opened."""
    return sorted(beside(run, "wandb").glob(f"offline-run-*-{run.info().id}*"))


def _settings() -> wandb.Settings:
    """Nothing of the mirror's own process: its output, load and command are not the run's."""
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
