"""The TensorBoard tracker: writes event files, without importing TensorFlow."""

from __future__ import annotations

import functools
import json
import shutil
import struct
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, BinaryIO

from dlsweep.folders.lineage import lineage_of, plain
from dlsweep.folders.rundir import COMPLETED, FAILURES, Media, Record, Result, RunDir, RunInfo
from dlsweep.folders.studydir import StudyDir
from dlsweep.machine.imports import require_package
from dlsweep.trackers.base import Point, Readable, State
from dlsweep.trackers.files import appending, begin, beside, require
from dlsweep.trackers.history import best_so_far, curve_name
from dlsweep.trackers.names import short_keys
from dlsweep.trackers.traces import trace_files, viewer_name

#: A constant name, so that a rewritten file replaces the old one.
_FILE = "events.out.tfevents.{}.dlsweep"
#: The column of HParams with how a trial ended, and what it may say.
_STATE, _ENDS = "state", sorted({*COMPLETED, "pruned", "rejected", *FAILURES})
#: The width to which integers are aligned.
_DIGITS = 12


class TensorBoardTracker(Readable):
    """Writes one event file for each run: scalars by step and time, and its row of HParams.

    TensorBoard keeps a row as it first reads it, so a trial gets its row with its state when it
    ends. HParams has no integers and would print 64 as ``64.000``, so integers are texts there,
    aligned so that they sort as numbers.

    The file is in ``<study>/tensorboard/<trial>/``, or in ``<run>/tensorboard/`` for a single run.
    The state stores its size; what a crash wrote after that is cut off. Scalars have 32 bits;
    ``nan`` and ``inf`` are kept. The returned metrics are ``result/<metric>``; the composed config
    is the text ``config``. A profiler's trace is beside the events: TensorFlow's where the profile
    page looks for it, PyTorch's as ``trace.pt.trace.json``. An ended study has the best value over
    its trials, ``best/<metric>``, in a file of its own.
    """

    view = "tensorboard --logdir {folder}/tensorboard"

    def check(self) -> None:
        """Checks that TensorBoard is installed.

        Raises:
            MissingExtraError: If it is not.
        """
        require_package("tensorboard", "tracking=tensorboard")

    def log_study(self, study: StudyDir, info: dict[str, Any], state: State) -> None:
        """Writes the columns of HParams, and the best value over trials once the study has ended.

        Running TensorBoards read on where they are: an earlier version of the file is its start.
        """
        file = study.path / "tensorboard" / _FILE.format(int(info["created"]))
        space = info.get("space") or {}
        # Rows that an earlier version has written have numbers.
        state.setdefault("integers", [] if file.exists() else _integers(space))
        events = [_experiment(info, state["integers"])] if space else []
        curve = best_so_far(study, info)
        events += [_scalars(one.time, one.trial, {curve_name(info): one.value}) for one in curve]
        if events:
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("wb") as target:
                opening = _event(info["created"], file_version="brain.Event:2")
                _write(target, [opening, *events])

    def start(self, run: RunDir, parent: State, state: State) -> None:
        """Creates the event file, or checks that it still contains what was written.

        Raises:
            ViewLostError: If the file is gone or shorter than it was.
        """
        if state:
            require(_event_file(run), state)
            return
        begin(_event_file(run), state)
        info = run.info()
        opening = [_event(info.created, file_version="brain.Event:2")]
        config = f"```yaml\n{run.config_file.read_text()}```"
        opening.append(_text(run, info.created, "config", config))
        self._append(run, opening, state)
        state["integers"] = parent.get("integers", [])

    def log(self, run: RunDir, records: list[Record], state: State) -> None:
        """Appends one event for each record. A run that goes on loses the row of its end."""
        state["size"] = state.pop("unended", state["size"])
        self._append(run, (_record(run, one) for one in records), state)

    def finish(self, run: RunDir, result: Result, state: State) -> None:
        """Appends the returned metrics and the row of HParams; copies the profiler's trace."""
        state["unended"] = state["size"] = state.pop("unended", state["size"])
        returned = {f"result/{name}": value for name, value in result.metrics.items()}
        closing = [_scalars(result.ended, 0, returned)] if returned else []
        if run.info().params:
            closing += _session(run.info(), result, state.get("integers", []))
        attrs = run.user_attrs()
        if lineage := lineage_of(run):
            attrs = {**attrs, "lineage": plain(lineage)}
        if attrs:
            closing.append(
                _text(run, result.ended, "user_attrs", f"```json\n{json.dumps(attrs)}\n```")
            )
        self._append(run, closing, state)
        for source, target in _traces(run):
            target.parent.mkdir(parents=True, exist_ok=True)
            aside = target.with_name(f".{target.name}")
            shutil.copyfile(source, aside)
            aside.replace(target)

    def read(self, run: RunDir, state: State) -> Iterator[Point]:  # noqa: ARG002
        """Yields the scalars of the event file."""
        for event in _tensorboard().LegacyEventFileLoader(str(_event_file(run))).Load():
            for value in event.summary.value:
                if value.WhichOneof("value") == "simple_value":
                    yield event.step, value.tag, value.simple_value

    def missing(self, run: RunDir, result: Result, state: State) -> Iterator[str]:  # noqa: ARG002
        """Checks that the profiler's trace is complete beside the events."""
        for source, target in _traces(run):
            if not target.exists() or target.stat().st_size != source.stat().st_size:
                yield f"the trace {target.name} is missing, or of another size"

    def remove(self, run: RunDir, state: State) -> None:  # noqa: ARG002
        """Removes the event file and the trace."""
        for path in (_event_file(run), *(target for _, target in _traces(run))):
            path.unlink(missing_ok=True)

    def _append(self, run: RunDir, events: Iterable[Any], state: State) -> None:
        with appending(_event_file(run), state) as file:
            _write(file, events)


def _event_file(run: RunDir) -> Path:
    """Returns the path of a run's event file."""
    info = run.info()
    folder = beside(run, "tensorboard")
    if info.number is not None:
        folder /= run.path.name
    return folder / _FILE.format(int(info.created))


def _traces(run: RunDir) -> Iterator[tuple[Path, Path]]:
    """Yields the files of a profiler's trace, each with its path for TensorBoard."""
    folder = _event_file(run).parent
    for name, source in trace_files(run).items():
        if viewer_name(name) != name:
            yield source, folder / viewer_name(name)


def _write(file: BinaryIO, events: Iterable[Any]) -> None:
    writer = _tensorboard().RecordWriter(file)
    for event in events:
        writer.write(event.SerializeToString())


def _event(time: float, **fields: Any) -> Any:
    return _tensorboard().Event(wall_time=time, **fields)


def _text(run: RunDir, time: float, name: str, text: str) -> Any:
    """Returns an event with a text, in Markdown."""
    summary = _tensorboard().Summary()
    _add_text(summary, name, run, {"text": text})
    return _event(time, step=0, summary=summary)


def _record(run: RunDir, record: Record) -> Any:
    event = _scalars(record.time, record.step, record.metrics)
    for name, media in record.media.items():
        _MEDIA[media["kind"]](event.summary, name, run, media)
    return event


def _add_image(summary: Any, name: str, run: RunDir, media: Media) -> None:
    png = (run.path / media["file"]).read_bytes()
    width, height = struct.unpack(">II", png[16:24])
    summary.value.add(
        tag=name,
        image=_tensorboard().Summary.Image(
            width=width, height=height, colorspace=4, encoded_image_string=png
        ),
    )


def _add_histogram(summary: Any, name: str, _: RunDir, media: Media) -> None:
    edges, counts = media["edges"], media["counts"]
    histogram = _tensorboard().HistogramProto(
        min=edges[0],
        max=edges[-1],
        num=sum(counts),
        sum=media["sum"],
        sum_squares=media["sum_squares"],
        bucket_limit=edges[1:],
        bucket=counts,
    )
    summary.value.add(tag=name, histo=histogram)


def _add_text(summary: Any, name: str, _: RunDir, media: Media) -> None:
    tb = _tensorboard()
    tensor = tb.make_tensor_proto([media["text"].encode()], dtype=tb.DT_STRING)
    about = tb.text_metadata.create_summary_metadata(display_name=name, description="")
    summary.value.add(tag=name, tensor=tensor, metadata=about)


def _add_table(summary: Any, name: str, run: RunDir, media: Media) -> None:
    """Adds a table as Markdown text, which TensorBoard renders."""
    lines = [media["columns"], ["---"] * len(media["columns"]), *media["rows"]]
    cells = [[str(cell).replace("|", r"\|").replace("\n", " ") for cell in line] for line in lines]
    text = "\n".join(f"| {' | '.join(line)} |" for line in cells)
    _add_text(summary, name, run, {"text": text})


_MEDIA = {
    "image": _add_image,
    "histogram": _add_histogram,
    "text": _add_text,
    "table": _add_table,
}


def _scalars(time: float, step: int, metrics: dict[str, float]) -> Any:
    summary = _tensorboard().Summary()
    for name, value in metrics.items():
        summary.value.add(tag=name, simple_value=value)
    return _event(time, step=step, summary=summary)


def _experiment(info: dict[str, Any], integers: list[str]) -> Any:
    """Returns the columns of HParams; the returned metrics are the best epoch's."""
    api = _tensorboard().api_pb2
    experiment = api.Experiment(time_created_secs=info["created"])
    short = short_keys([*info["space"], _STATE])
    for key, distribution in info["space"].items():
        column = _column(key, key in integers, **distribution["attributes"])
        experiment.hparam_infos.append(column)
    if _STATE not in info["space"]:
        experiment.hparam_infos.append(_column(_STATE, choices=_ENDS))
    for column in experiment.hparam_infos:
        column.display_name = short[column.name]
        # TensorBoard shows five columns unasked, those that differ first.
        column.differs = "/" in column.name or column.name == _STATE
    for name in info["objective"]:
        for tag, title in ((f"result/{name}", f"{name} at best"), (name, f"{name} at last")):
            metric = api.MetricInfo(name=api.MetricName(tag=tag), display_name=title)
            experiment.metric_infos.append(metric)
    return _hparams_event(info["created"], "EXPERIMENT_TAG", experiment=experiment)


def _integers(space: dict[str, Any]) -> list[str]:
    """Returns the keys of a space that have integers only."""
    ends = {
        key: one["attributes"].get("choices") or [one["attributes"]["low"]]
        for key, one in space.items()
    }
    return [key for key, some in ends.items() if {type(value) for value in some} == {int}]


def _column(key: str, is_integer: bool = False, choices: Sequence[Any] = (), **ends: Any) -> Any:
    """Returns the column of a swept key, from the attributes of its Optuna distribution."""
    api = _tensorboard().api_pb2
    values = [_value(choice, is_integer) for choice in choices or [ends["low"]]]
    kinds = {value.WhichOneof("kind") for value in values}
    if kinds == {"number_value"}:
        column = api.HParamInfo(name=key, type=api.DATA_TYPE_FLOAT64)
    elif kinds == {"bool_value"}:
        column = api.HParamInfo(name=key, type=api.DATA_TYPE_BOOL)
    else:
        column = api.HParamInfo(name=key, type=api.DATA_TYPE_STRING)
    if choices:
        column.domain_discrete.values.extend(values)
    elif not is_integer:
        column.domain_interval.min_value = ends["low"]
        column.domain_interval.max_value = ends["high"]
    return column


def _value(value: Any, is_integer: bool = False) -> Any:
    tb = _tensorboard()
    if isinstance(value, bool):
        return tb.Value(bool_value=value)
    if is_integer:
        return tb.Value(string_value=f"{value:>{_DIGITS}}")
    if isinstance(value, int | float):
        return tb.Value(number_value=value)
    return tb.Value(string_value=str(value))


def _session(info: RunInfo, result: Result, integers: list[str]) -> list[Any]:
    """Returns the row of a trial in HParams: its start with the parameters, and its end."""
    tb = _tensorboard()
    start = tb.SessionStartInfo(group_name=info.name, start_time_secs=info.created)
    for key, value in {_STATE: result.status, **info.params}.items():
        start.hparams[key].CopyFrom(_value(value, key in integers))
    good = result.status not in FAILURES
    status = tb.api_pb2.STATUS_SUCCESS if good else tb.api_pb2.STATUS_FAILURE
    end = tb.SessionEndInfo(status=status, end_time_secs=result.ended)
    return [
        _hparams_event(info.created, "SESSION_START_INFO_TAG", session_start_info=start),
        _hparams_event(result.ended, "SESSION_END_INFO_TAG", session_end_info=end),
    ]


def _hparams_event(time: float, tag: str, **message: Any) -> Any:
    """Returns an event with a message for the HParams page."""
    tb = _tensorboard()
    summary = tb.Summary()
    about = tb.metadata.create_summary_metadata(tb.HParamsPluginData(**message))
    summary.value.add(tag=getattr(tb.metadata, tag), metadata=about, tensor=tb.metadata.NULL_TENSOR)
    return _event(time, summary=summary)


@functools.cache
def _tensorboard() -> SimpleNamespace:
    """Imports the parts of TensorBoard that are used here, at the first event.

    If TensorFlow is installed, TensorBoard would import it, which takes seconds and 600 MB. The
    marker module makes it use its own stub instead.
    """
    sys.modules.setdefault("tensorboard.compat.notf", ModuleType("notf"))
    from google.protobuf.struct_pb2 import Value
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary
    from tensorboard.compat.proto.types_pb2 import DT_STRING
    from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2
    from tensorboard.plugins.text import metadata as text_metadata
    from tensorboard.summary.writer.record_writer import RecordWriter
    from tensorboard.util.tensor_util import make_tensor_proto

    return SimpleNamespace(
        Event=Event,
        LegacyEventFileLoader=LegacyEventFileLoader,
        Value=Value,
        Summary=Summary,
        HistogramProto=HistogramProto,
        DT_STRING=DT_STRING,
        text_metadata=text_metadata,
        make_tensor_proto=make_tensor_proto,
        RecordWriter=RecordWriter,
        HParamsPluginData=plugin_data_pb2.HParamsPluginData,
        SessionStartInfo=plugin_data_pb2.SessionStartInfo,
        SessionEndInfo=plugin_data_pb2.SessionEndInfo,
        api_pb2=api_pb2,
        metadata=metadata,
    )
