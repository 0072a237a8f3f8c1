"""Event files for TensorBoard, written without TensorFlow."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from dlsweep.errors import MissingExtraError
from dlsweep.rundir import FAILURES, Record, Result, RunDir
from dlsweep.trackers.base import State, Tracker, ViewLostError


class TensorBoardTracker(Tracker):
    """One event file a run: scalars by step and wall time, and a session for the HParams page.

    The file is in ``<study>/tensorboard/<trial>/``, or in ``<run>/tensorboard/`` for a run that
    is no trial. The state holds its size, and what lies behind that was torn by a crash and is
    cut off. Scalars are 32 bits wide there; ``nan`` and ``inf`` stay what they are. What training
    returned becomes ``result/<metric>``.
    """

    view = "tensorboard --logdir {folder}/tensorboard"

    def check(self) -> None:
        """Looks for the package.

        Raises:
            MissingExtraError: If it is not installed.
        """
        if find_spec("tensorboard") is None:
            raise MissingExtraError("tensorboard", "tracking=tensorboard")

    def start(self, run: RunDir, parent: State, state: State) -> None:  # noqa: ARG002
        """Makes the event file, or checks that it still holds what was written.

        Raises:
            ViewLostError: If the file is gone or shorter than it was.
        """
        if state:
            self._require(_event_file(run), state)
            return
        file, info = _event_file(run), run.info()
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")
        state["size"] = 0
        opening = [_event(info.created, file_version="brain.Event:2")]
        if info.params:
            opening.append(_session_start(info.created, info.name, info.params))
        self._append(run, opening, state)

    def log(self, run: RunDir, records: list[Record], state: State) -> None:
        """Appends one event a record."""
        self._append(run, (_scalars(one.time, one.step, one.metrics) for one in records), state)

    def finish(self, run: RunDir, result: Result, state: State) -> None:
        """Appends what training returned and the end of the session."""
        returned = {f"result/{name}": value for name, value in result.metrics.items()}
        closing = [_scalars(result.ended, 0, returned)] if returned else []
        if run.info().params:
            closing.append(_session_end(result))
        self._append(run, closing, state)

    def _append(self, run: RunDir, events: Iterable[Any], state: State) -> None:
        path = _event_file(run)
        self._require(path, state)
        with path.open("r+b") as file:
            file.truncate(state["size"])
            file.seek(0, 2)
            writer = _tensorboard().RecordWriter(file)
            for event in events:
                writer.write(event.SerializeToString())
            size = file.tell()
        state["size"] = size

    def _require(self, path: Path, state: State) -> None:
        size = path.stat().st_size if path.exists() else 0
        if size < state["size"]:
            raise ViewLostError(f"{path} has {size} bytes. Expected {state['size']} or more.")


def _event_file(run: RunDir) -> Path:
    """Where a run's events are; its name never changes, so that a rebuilt one replaces it."""
    info = run.info()
    if info.number is None:
        folder = run.path / "tensorboard"
    else:
        folder = run.path.parent.parent / "tensorboard" / run.path.name
    return folder / f"events.out.tfevents.{int(info.created)}.dlsweep"


def _event(time: float, **fields: Any) -> Any:
    return _tensorboard().Event(wall_time=time, **fields)


def _scalars(time: float, step: int, metrics: dict[str, float]) -> Any:
    summary = _tensorboard().Summary()
    for name, value in metrics.items():
        summary.value.add(tag=name, simple_value=value)
    return _event(time, step=step, summary=summary)


def _session_start(time: float, name: str, params: dict[str, Any]) -> Any:
    tb = _tensorboard()
    start = tb.SessionStartInfo(group_name=name, start_time_secs=time)
    for key, value in params.items():
        if isinstance(value, bool):
            start.hparams[key].bool_value = value
        elif isinstance(value, int | float):
            start.hparams[key].number_value = value
        else:
            start.hparams[key].string_value = str(value)
    data = tb.HParamsPluginData(session_start_info=start)
    return _session_event(time, tb.metadata.SESSION_START_INFO_TAG, data)


def _session_end(result: Result) -> Any:
    tb = _tensorboard()
    good = result.status not in FAILURES
    status = tb.api_pb2.STATUS_SUCCESS if good else tb.api_pb2.STATUS_FAILURE
    end = tb.SessionEndInfo(status=status, end_time_secs=result.ended)
    data = tb.HParamsPluginData(session_end_info=end)
    return _session_event(result.ended, tb.metadata.SESSION_END_INFO_TAG, data)


def _session_event(time: float, tag: str, data: Any) -> Any:
    """An event that carries a message for the HParams page and no number."""
    tb = _tensorboard()
    summary = tb.Summary()
    about = tb.metadata.create_summary_metadata(data)
    summary.value.add(tag=tag, metadata=about, tensor=tb.metadata.NULL_TENSOR)
    return _event(time, summary=summary)


@functools.cache
def _tensorboard() -> SimpleNamespace:
    """The parts of TensorBoard that are used here, imported at the first event.

    Where TensorFlow is installed TensorBoard would import it, for seconds and 600 MB; the marker
    module has it use its own stub.
    """
    sys.modules.setdefault("tensorboard.compat.notf", ModuleType("notf"))
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2
    from tensorboard.summary.writer.record_writer import RecordWriter

    return SimpleNamespace(
        Event=Event,
        Summary=Summary,
        RecordWriter=RecordWriter,
        HParamsPluginData=plugin_data_pb2.HParamsPluginData,
        SessionStartInfo=plugin_data_pb2.SessionStartInfo,
        SessionEndInfo=plugin_data_pb2.SessionEndInfo,
        api_pb2=api_pb2,
        metadata=metadata,
    )
