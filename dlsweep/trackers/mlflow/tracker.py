"""The MLflow tracker: an SQLite file, or an MLflow server."""

from __future__ import annotations

import importlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import nullcontext
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from dlsweep.errors import TrackerError
from dlsweep.folders import origin
from dlsweep.folders.lineage import in_words, lineage_of
from dlsweep.folders.rundir import COMPLETED, Record, Result, RunDir, Status
from dlsweep.folders.studydir import StudyDir
from dlsweep.machine.imports import require_package
from dlsweep.trackers.base import Point, Readable, Registry, State, ViewLostError
from dlsweep.trackers.checkpoints import Keep, check_keep
from dlsweep.trackers.exports import ExportedVersion
from dlsweep.trackers.files import home
from dlsweep.trackers.history import best_so_far, curve_name
from dlsweep.trackers.mlflow.artifacts import missing_files, send_files
from dlsweep.trackers.mlflow.entities import LONGEST_TAG, to_metrics, to_ms, to_params, to_tags
from dlsweep.trackers.mlflow.exports import register_export
from dlsweep.trackers.mlflow.media import send_media
from dlsweep.trackers.mlflow.models import LogModel, Models
from dlsweep.trackers.mlflow.moved import ARTIFACTS, follow_move, refuse_elsewhere
from dlsweep.trackers.mlflow.names import key
from dlsweep.trackers.mlflow.notes import study_note
from dlsweep.trackers.mlflow.pages import run_page, study_page
from dlsweep.trackers.mlflow.report import missing_report, send_report
from dlsweep.trackers.mlflow.store import SQLITE, check_writable, creating, database_of, gather
from dlsweep.trackers.names import run_name
from dlsweep.trackers.params import params_of
from dlsweep.trackers.server import check_answers

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

_STATUS: dict[Status, str] = {
    "completed": "FINISHED",
    "stopped_early": "FINISHED",
    "pruned": "FINISHED",
    "killed": "KILLED",
    "stopped": "KILLED",
    "rejected": "KILLED",
}
#: MLflow itself retries for minutes. The mirror retries without limit and blocks nothing.
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
#: The tag with a run's description, in Markdown.
_NOTE = "mlflow.note.content"
#: The tag of an experiment that opens MLflow's page on its training runs, not on traces.
_KIND = "mlflow.experimentKind"
_METRICS_A_CALL, _PARAMS_A_CALL = 1000, 100


class MLflowTracker(Readable, Registry):
    """Logs to an MLflow experiment: a parent run for each study, a child run for each trial.

    A single run has no parent. MLflow stores a repeated metric point once, and a run is searched by
    its tag ``dlsweep.run_id`` before it is created, so repeated calls after a crash change nothing.
    ``nan`` is kept; MLflow stores ``inf`` as 1.79e308. The returned metrics are
    ``result/<metric>``. The parent run of an ended study has the best value over its trials as
    ``best/<metric>``. A character that MLflow does not allow in a name becomes ``_``,
    and such a name ends with a short hash, so that ``mean@1`` and ``mean#1`` stay apart.

    Args:
        tracking_uri: ``sqlite:///mlflow.db`` (relative to the current folder) or ``http://host:port``.
        experiment: MLflow's experiment for all studies of the project; None means one experiment
            for each study, with its name.
        checkpoint: Which checkpoint of a completed run to upload as an artifact: ``best``, ``last``
            or ``none``.
        log_model: Which trained models to upload in MLflow's format, ready for ``mlflow models
            serve``: that of a study's ``best`` trial, ``all`` completed ones, or ``none``. A single
            run counts as best. A training function has no model.
        registered_model_name: A model of MLflow's registry. The best model of each study becomes a
            version of it; the alias ``best`` is set to the best version with the same objective.

    Raises:
        ConfigError: If the URI or an option is not valid.
    """

    def __init__(
        self,
        tracking_uri: str,
        experiment: str | None = None,
        checkpoint: Keep = "best",
        log_model: LogModel = "best",
        registered_model_name: str | None = None,
    ) -> None:
        self.database = database_of(tracking_uri)
        if self.database:
            tracking_uri = f"{SQLITE}{self.database}"
        self.uri = tracking_uri
        self._place = re.sub("//[^/]*@", "//", tracking_uri)  # no password
        self.view = "python -m dlsweep ui mlflow --folder {folder}"
        if self.database is None:
            self.view = self._place
        check_keep("mlflow", checkpoint)
        self._checkpoint = checkpoint
        self._models = Models(log_model, registered_model_name)
        self._project = experiment
        self._experiments: dict[str, str] = {}
        self._checked: set[str] = set()

    def check(self) -> None:
        """Checks that MLflow is installed, and that the server answers or the file can be written.

        Raises:
            MissingExtraError: If MLflow is not installed.
            TrackerError: If the server does not answer or the file cannot be written.
        """
        require_package("mlflow", "tracking=mlflow")
        if self.database:
            check_writable(self.database)
        else:
            way_out = "Start it, or give another with  tracking.mlflow.tracking_uri=…"
            check_answers("MLflow", self.uri, way_out)

    def preload(self) -> None:
        """Imports MLflow, and what it needs for an SQLite file."""
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        importlib.import_module("mlflow.tracking")
        if self.database:
            importlib.import_module("mlflow.store.tracking.sqlalchemy_store")

    def log_study(self, study: StudyDir, info: dict[str, Any], state: State) -> None:
        """Creates the study's parent run; ends it with the best trial and the report."""
        experiment = self._experiment(info["name"])
        tags = {
            "dlsweep.run_id": info["id"],
            "dlsweep.folder": str(study.path),
            "dlsweep.objective": ", ".join(info["objective"]),
            "dlsweep.directions": ", ".join(info["directions"]),
            "dlsweep.n_trials": str(info["n_trials"]),
            "dlsweep.status": "completed" if "finished" in info else "running",
        }
        self._open(experiment, info["name"], info["created"], tags, state)
        self._show(study_page(info, state))
        if "finished" in info:
            tags |= self._conclude(study, info, experiment, state)
        self._client.log_batch(state["run_id"], tags=to_tags(tags))
        self._send_origin(study.path, state)
        if "finished" in info:
            self._client.set_terminated(state["run_id"], "FINISHED", to_ms(info["finished"]))
        else:
            self._client.update_run(state["run_id"], "RUNNING")

    def start(self, run: RunDir, parent: State, state: State) -> None:
        """Creates the run with its tags, params and config, unless it exists.

        Raises:
            ViewLostError: If the run was deleted.
        """
        if state:
            self._require(state["run_id"])
            if not parent:
                self._show(run_page(state))
            return
        info = run.info()
        tags = {
            "dlsweep.run_id": info.id,
            "dlsweep.folder": str(run.path),
            "dlsweep.overrides": " ".join(info.overrides),
            "dlsweep.status": "running",
        }
        if parent:
            tags["mlflow.parentRunId"] = parent["run_id"]
        if commit := origin.read(home(run)).get("commit"):
            tags["mlflow.source.git.commit"] = commit
        self._open(self._experiment(info.study), run_name(info), info.created, tags, state)
        if not parent:
            self._show(run_page(state))
            self._send_origin(run.path, state)
        params = iter(params_of(run).items())
        while batch := list(islice(params, _PARAMS_A_CALL)):
            self._client.log_batch(state["run_id"], params=to_params(batch))
        self._client.log_artifact(state["run_id"], str(run.config_file))

    def log(self, run: RunDir, records: list[Record], state: State) -> None:
        """Logs every metric of the records with step and wall time, and the media."""
        if state.pop("closed", False):
            self._client.update_run(state["run_id"], "RUNNING")
        points = (
            (name, value, record.time, record.step)
            for record in records
            for name, value in record.metrics.items()
        )
        while batch := list(islice(points, _METRICS_A_CALL)):
            self._client.log_batch(state["run_id"], metrics=to_metrics(batch))
        for record in records:
            send_media(self._client, state["run_id"], run, record)

    def finish(self, run: RunDir, result: Result, state: State) -> None:
        """Logs the returned metrics, log, trace, best checkpoint and model; ends the run."""
        run_id = state["run_id"]
        returned = [(f"result/{k}", v, result.ended, 0) for k, v in result.metrics.items()]
        attrs = {key(name): str(value) for name, value in run.user_attrs().items()}
        tags = {**attrs, "dlsweep.status": result.status, "dlsweep.reason": result.reason}
        if lineage := lineage_of(run):
            tags["dlsweep.lineage"] = in_words(lineage)
        self._client.log_batch(run_id, metrics=to_metrics(returned), tags=to_tags(tags))
        send_files(self._client, run, result, self._checkpoint, state)
        if result.status in COMPLETED:
            self._models.send(self._client, run_id, run, result)
        status = _STATUS.get(result.status, "FAILED")
        self._client.set_terminated(run_id, status, to_ms(result.ended))
        state["closed"] = True

    def close(self) -> None:
        """Moves the write-ahead log into MLflow's SQLite file."""
        if self.database:
            gather(self.database)

    def read(self, run: RunDir, state: State) -> Iterator[Point]:
        """Yields the history of every metric that the run has logged."""
        records = chain(run.records(), run.samples())
        names = {name for record, _ in records for name in record.metrics}
        for name in names:
            for point in self._client.get_metric_history(state["run_id"], key(name)):
                yield point.step, name, point.value

    def missing(self, run: RunDir, result: Result, state: State) -> Iterator[str]:
        """Checks that log, trace, checkpoint and model are complete."""
        yield from missing_files(self._client, run, result, self._checkpoint, state)
        if result.status in COMPLETED:
            yield from self._models.missing(self._client, state["run_id"], run, is_best=False)

    def missing_of_study(
        self, study: StudyDir, info: dict[str, Any], state: State
    ) -> Iterator[str]:
        """Checks that the report, and the best trial's model and version, are complete."""
        if "finished" in info:
            yield from missing_report(self._client, study, state)
        if best := info.get("best"):
            trial = study.trial(best["number"])
            run_id = self._child(trial, self._experiment(info["name"]))
            if run_id is None:
                yield f"its best trial, {trial.path.name}, is missing"
            else:
                yield from self._models.missing(self._client, run_id, trial, is_best=True)

    def remove(self, run: RunDir, state: State) -> None:  # noqa: ARG002
        """Deletes the run in MLflow's way: it can be restored."""
        self._client.delete_run(state["run_id"])

    def register(
        self, run: RunDir, export: ExportedVersion, name: str, alias: str | None, state: State
    ) -> str:
        """Makes an exported model an output of its run and a version of a registered model."""
        return register_export(self._client, state["run_id"], run, export, name, alias)

    @cached_property
    def _client(self) -> MlflowClient:
        self.preload()
        from mlflow.tracking import MlflowClient
        from mlflow.tracking._tracking_service import utils

        utils._artifact_repos_cache.clear()  # its keys are run ids, which a copied file shares
        if self.database:
            follow_move(self.database)
        return MlflowClient(self.uri)

    def _experiment(self, study: str) -> str:
        """Returns the id of a study's experiment; creates it if needed."""
        name = self._project or study
        if name not in self._experiments:
            with creating(self.database) if self.database else nullcontext():
                self._experiments[name] = self._find_experiment(name)
        self._check_places(self._experiments[name])
        return self._experiments[name]

    def _find_experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is None:
            root = (
                f"{self.database.parent.as_uri()}/{ARTIFACTS}/{quote(name)}"
                if self.database
                else None
            )
            return self._client.create_experiment(name, root, {_KIND: "custom_model_development"})
        if found.lifecycle_stage != "active":
            raise TrackerError(
                f"The MLflow experiment {name!r} was deleted in {self._place}.\n"
                "Restore it there, or give another:  tracking.mlflow.experiment=…"
            )
        return str(found.experiment_id)

    def _open(
        self, experiment: str, name: str, created: float, tags: dict[str, str], state: State
    ) -> None:
        """Writes the id of the run with these tags to the state; creates the run if needed.

        A run keeps the name that it was created with, or that somebody has given it in MLflow.
        """
        if state:
            self._require(state["run_id"])
            state["experiment"] = experiment
            return
        run_id = self._find(experiment, tags["dlsweep.run_id"])
        if run_id is None:
            fitting = {key: value[:LONGEST_TAG] for key, value in tags.items()}
            run = self._client.create_run(experiment, to_ms(created), fitting, name)
            run_id = run.info.run_id
        state |= {"run_id": run_id, "experiment": experiment}

    def _show(self, page: str) -> None:
        """Makes the address of a server that of a page on it."""
        if self.database is None:
            self.view = f"{self._place.rstrip('/')}{page}"

    def _find(self, experiment: str, run_id: str) -> str | None:
        wanted = f"tags.`dlsweep.run_id` = '{run_id}'"
        found = self._client.search_runs([experiment], wanted, max_results=1)
        return found[0].info.run_id if found else None

    def _require(self, run_id: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            info = self._client.get_run(run_id).info
            stage = info.lifecycle_stage
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            stage = "deleted"
        if stage != "active":
            raise ViewLostError(f"The MLflow run {run_id} is no longer in {self._place}.")
        self._check_places(info.experiment_id)

    def _check_places(self, experiment: str) -> None:
        """Checks, once, that an experiment in an SQLite file stores no artifacts elsewhere."""
        if self.database and experiment not in self._checked:
            refuse_elsewhere(self.database, experiment)
            self._checked.add(experiment)

    def _conclude(
        self, study: StudyDir, info: dict[str, Any], experiment: str, state: State
    ) -> dict[str, str]:
        """Uploads what an ended study has; returns its tags."""
        best = info.get("best")
        tags = self._best_trial(study, info, experiment, best) if best else {}
        name = curve_name(info)
        curve = ((name, one.value, one.time, one.trial) for one in best_so_far(study, info))
        while batch := list(islice(curve, _METRICS_A_CALL)):  # MLflow has each point once
            self._client.log_batch(state["run_id"], metrics=to_metrics(batch))
        end = [info["n_trials"], best]
        if state.get("end") != end:
            if best and (run_id := tags.get("dlsweep.best_run_id")):
                trial = study.trial(best["number"])
                self._models.send_best(self._client, run_id, trial, best["value"])
            state["end"] = end
        if "report" in info and state.get("report") != end:  # it is written by then
            send_report(self._client, study, state)
            state["report"] = end
        return tags

    def _best_trial(
        self, study: StudyDir, info: dict[str, Any], experiment: str, best: dict[str, Any]
    ) -> dict[str, str]:
        trial = study.trial(best["number"])
        tags = {
            "dlsweep.best_trial": str(best["number"]),
            "dlsweep.best_params": json.dumps(best["params"]),
        }
        if run_id := self._child(trial, experiment):
            link = f"[{trial.path.name}](#/experiments/{experiment}/runs/{run_id})"
            tags[_NOTE] = study_note(study.path, info, best, link)
            tags["dlsweep.best_run_id"] = run_id
        return tags

    def _child(self, trial: RunDir, experiment: str) -> str | None:
        """Returns the id of a trial's run, if there is one."""
        return self._find(experiment, trial.info().id) if trial.info_file.exists() else None

    def _send_origin(self, folder: Path, state: State) -> None:
        """Uploads the origin of the runs, once."""
        if state.get("origin") or not (folder / origin.ORIGIN).exists():
            return
        for name in (origin.ORIGIN, origin.DIFF):
            if (folder / name).exists():
                self._client.log_artifact(state["run_id"], str(folder / name))
        state["origin"] = True
