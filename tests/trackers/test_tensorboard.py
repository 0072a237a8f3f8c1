from __future__ import annotations

import json
import math
import subprocess
import sys

import pytest
from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)

from dlsweep.folders.rundir import Record, Result
from dlsweep.folders.studydir import StudyDir
from dlsweep.trackers.base import ViewLostError
from dlsweep.trackers.tensorboard import TensorBoardTracker

pytestmark = pytest.mark.slow


def tell(run, records, result=None, tracker=None, state=None, parent=None):
    tracker, state = tracker or TensorBoardTracker(), {} if state is None else state
    tracker.start(run, parent or {}, state)
    tracker.log(run, records, state)
    if result:
        tracker.finish(run, result, state)
    return state


def read(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return events


def test_scalars_have_step_wall_time_and_value(make_run):
    run = make_run({"lr": 0.1}, name="0003")
    tell(run, [Record(4, 100.25, {"a": 0.5, "b/c": 2.0}), Record(5, 101.5, {"a": 0.25})])
    events = read(run.path.parents[1] / "tensorboard" / "0003")
    assert [(e.step, e.wall_time, e.value) for e in events.Scalars("a")] == [
        (4, 100.25, 0.5),
        (5, 101.5, 0.25),
    ]
    assert [e.value for e in events.Scalars("b/c")] == [2.0]
    (config,) = events.Tensors("config")
    assert config.tensor_proto.string_val == [b"```yaml\nlr: 0.1\n```"]


def test_nan_and_infinity_stay_what_they_are(make_run):
    run = make_run()
    tell(run, [Record(0, 1.0, {"a": math.nan}), Record(1, 1.0, {"a": math.inf})])
    first, second = read(run.path.parents[1] / "tensorboard" / "0000").Scalars("a")
    assert math.isnan(first.value)
    assert second.value == math.inf


def test_a_single_run_keeps_its_events_in_its_own_folder(make_run):
    run = make_run(number=None)
    tell(run, [Record(0, 1.0, {"a": 1.0})], Result("completed", metrics={"a": 3.0}, ended=9.0))
    events = read(run.path / "tensorboard")
    assert [e.value for e in events.Scalars("result/a")] == [3.0]


def test_a_torn_event_is_cut_off(make_run):
    run = make_run()
    tracker = TensorBoardTracker()
    state = tell(run, [Record(0, 1.0, {"a": 1.0})])
    (file,) = (run.path.parents[1] / "tensorboard" / "0000").iterdir()
    with file.open("ab") as events:
        events.write(b"\x19torn by a crash")
    tell(run, [Record(1, 2.0, {"a": 2.0})], tracker=tracker, state=state)
    assert [e.value for e in read(file.parent).Scalars("a")] == [1.0, 2.0]
    assert file.stat().st_size == state["size"]


def test_a_shortened_file_is_said_to_be_lost(make_run):
    run = make_run()
    state = tell(run, [Record(0, 1.0, {"a": 1.0})])
    (file,) = (run.path.parents[1] / "tensorboard" / "0000").iterdir()
    with file.open("r+b") as events:
        events.truncate(10)
    with pytest.raises(ViewLostError, match=f"has 10 bytes. Expected {state['size']} or more"):
        TensorBoardTracker().start(run, {}, state)


def test_the_hparams_page_lists_params_objective_and_status(make_run):
    from tensorboard.plugins.hparams import api_pb2

    ended = [("completed", 0.5, "adam"), ("crashed", 0.25, "sgd")]
    for number, (status, lr, optimizer) in enumerate(ended):
        params = {"lr": lr, "training/optimizer": optimizer, "nesterov": True}
        run = make_run(name=f"{number:04d}", params=params)
        tell(run, [Record(0, 1.0, {"val/accuracy": lr})], Result(status, ended=9.0))
    experiment, sessions = hparams_page(run.path.parents[1] / "tensorboard")
    assert {info.name for info in experiment.hparam_infos} == {
        "lr",
        "training/optimizer",
        "nesterov",
        "state",
    }
    assert "val/accuracy" in {info.name.tag for info in experiment.metric_infos}
    assert [
        (
            group.hparams["lr"].number_value,
            group.hparams["training/optimizer"].string_value,
            group.hparams["nesterov"].bool_value,
            api_pb2.Status.Name(group.sessions[0].status),
            [metric.value for metric in group.metric_values if metric.name.tag == "val/accuracy"],
        )
        for group in sessions
    ] == [
        (0.5, "adam", True, "STATUS_SUCCESS", [0.5]),
        (0.25, "sgd", True, "STATUS_FAILURE", [0.25]),
    ]


SPACE = {
    "training/optimizer": CategoricalDistribution(["adam", "sgd"]),
    "training.optimizer.lr": FloatDistribution(1e-4, 0.1, log=True),
    "model.hidden": IntDistribution(32, 512, log=True),
    "training.batch_size": CategoricalDistribution([64, 128]),
    "model.dropout": CategoricalDistribution([0, 0.5]),
}
STUDY = {
    "created": 100.0,
    "space": {key: json.loads(distribution_to_json(one)) for key, one in SPACE.items()},
    "objective": ["val/loss"],
    "directions": ["minimize"],
}


def test_the_hparams_page_of_a_study_shows_its_space_the_state_and_the_objective(make_run):
    points = [("adam", 0.01, 64, 128, 0.5), ("sgd", 0.02, 512, 64, 0)]
    parent: dict = {}
    for number, point in enumerate(points):
        run = make_run(name=f"{number:04d}", params=dict(zip(SPACE, point, strict=True)))
        TensorBoardTracker().log_study(StudyDir(run.path.parents[1]), STUDY, parent)
        told = [Record(1, 1.0, {"val/loss": 0.25, "a": 1.0}), Record(2, 2.0, {"val/loss": 0.5})]
        result = Result("completed", metrics={"val/loss": 0.25}, ended=9.0)
        tell(run, told, result if number else Result("pruned", ended=9.0), parent=parent)
    experiment, (pruned, completed) = hparams_page(run.path.parents[1] / "tensorboard")
    columns = {info.display_name: info for info in experiment.hparam_infos}
    assert list(columns) == ["state", "optimizer", "dropout", "hidden", "batch_size", "lr"]
    domain = columns["lr"].domain_interval
    assert (domain.min_value, domain.max_value) == (1e-4, 0.1)
    discrete = {name: list(info.domain_discrete) for name, info in columns.items()}
    assert discrete["optimizer"] == ["adam", "sgd"]
    assert [text.strip() for text in discrete["batch_size"]] == ["64", "128"]
    assert discrete["dropout"] == [0.0, 0.5]
    assert [info.display_name for info in experiment.metric_infos] == [
        "val/loss at best",
        "val/loss at last",
    ]
    assert [metric.value for metric in completed.metric_values] == [0.25, 0.5]
    shown = [
        [group.hparams[column.name] for column in columns.values()] for group in (pruned, completed)
    ]
    assert [
        [value.string_value.strip() or value.number_value for value in row] for row in shown
    ] == [
        ["pruned", "adam", 0.5, "64", "128", 0.01],
        ["completed", "sgd", 0.0, "512", "64", 0.02],
    ]
    sizes = [group.hparams["model.hidden"].string_value for group in (completed, pruned)]
    assert sorted(sizes) == sizes[::-1], "as texts, they sort as numbers"


def test_a_study_that_an_earlier_version_has_begun_keeps_numbers(make_run):
    run = make_run(params={"model.hidden": 64})
    study = StudyDir(run.path.parents[1])
    first = {"model.hidden": {"name": "IntDistribution", "attributes": {"low": 32, "high": 512}}}
    TensorBoardTracker().log_study(study, {**STUDY, "space": first}, {})  # its state had nothing
    parent: dict = {}
    TensorBoardTracker().log_study(study, {**STUDY, "space": first}, parent)
    tell(run, [], Result("completed", ended=9.0), parent=parent)
    experiment, (group,) = hparams_page(study.path / "tensorboard")
    assert group.hparams["model.hidden"].number_value == 64.0
    assert {info.name: info.type for info in experiment.hparam_infos}["model.hidden"] == 3


def test_a_trial_that_goes_on_after_its_end_has_one_row_and_each_value_once(make_run):
    from tensorboard.plugins.hparams import api_pb2

    run = make_run(params={"lr": 0.1})
    tracker = TensorBoardTracker()
    state = tell(run, [Record(0, 1.0, {"a": 1.0})], Result("killed", ended=2.0), tracker)
    tell(run, [Record(1, 3.0, {"a": 0.5})], tracker=tracker, state=state)
    for _ in range(2):  # as after a crash of the mirror
        tracker.finish(run, Result("completed", metrics={"a": 0.5}, ended=4.0), dict(state))
    events = read(run.path.parents[1] / "tensorboard" / "0000")
    assert [(e.step, e.value) for e in events.Scalars("a")] == [(0, 1.0), (1, 0.5)]
    assert [e.value for e in events.Scalars("result/a")] == [0.5]
    _, (group,) = hparams_page(run.path.parents[1] / "tensorboard")
    assert group.hparams["state"].string_value == "completed"
    assert group.sessions[0].status == api_pb2.STATUS_SUCCESS


def test_an_ended_study_has_the_best_value_over_its_trials_as_a_curve(make_run):
    for number, loss in enumerate([0.5, 0.75, 0.25]):
        run = make_run(name=f"{number:04d}")
        run.write_result(Result("completed", metrics={"val/loss": loss}, ended=number))
    study = StudyDir(run.path.parents[1])
    state: dict = {}
    for more in ({}, {"finished": 9.0}, {"finished": 9.0, "report": "report.html"}):
        TensorBoardTracker().log_study(study, {**STUDY, **more}, state)
    (file,) = (study.path / "tensorboard").glob("events*")
    curve = read(file).Scalars("best/val/loss")
    assert [(e.step, e.value) for e in curve] == [(0, 0.5), (1, 0.5), (2, 0.25)]


def hparams_page(logdir):
    """What TensorBoard's own back end serves to the HParams page."""
    from tensorboard import context
    from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
    from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
    from tensorboard.plugins import base_plugin
    from tensorboard.plugins.hparams import api_pb2, backend_context, list_session_groups

    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(logdir))
    multiplexer.Reload()
    provider = MultiplexerDataProvider(multiplexer, str(logdir))
    page = backend_context.Context(base_plugin.TBContext(data_provider=provider))
    request = context.RequestContext()
    metadata = page.hparams_metadata(request, "")
    experiment = page.experiment_from_metadata(request, "", True, metadata, [])
    wanted = api_pb2.ListSessionGroupsRequest(
        start_index=0,
        slice_size=10,
        allowed_statuses=[api_pb2.STATUS_SUCCESS, api_pb2.STATUS_FAILURE],
        include_metrics=True,
    )
    answer = list_session_groups.Handler(request, page, "", wanted).run()
    return experiment, sorted(answer.session_groups, key=lambda group: group.name)


def test_making_and_checking_one_imports_no_tensorboard():
    code = (
        "import sys; from dlsweep.trackers.tensorboard import TensorBoardTracker;"
        "TensorBoardTracker().check(); print([m for m in sys.modules if m == 'tensorboard'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_images_histograms_texts_and_tables_are_shown_as_such(rich_run):
    run, records = rich_run
    tell(run, records)
    events = read(run.path.parents[1] / "tensorboard" / "0000")
    assert events.Tags()["scalars"] == ["val/loss"]
    (image,) = events.Images("val/examples")
    assert (image.step, image.width, image.height) == (1, 6, 4)
    assert image.encoded_image_string == run.media_file("val/examples", 1).read_bytes()
    (histogram,) = events.Histograms("weights")
    value = histogram.histogram_value
    assert (value.num, value.sum, value.min, value.max) == (4.0, 5.0, 0.0, 3.0)
    texts = {tag: events.Tensors(tag)[0].tensor_proto.string_val[0] for tag in ("sample", "wrong")}
    assert texts == {
        "sample": b"once upon",
        "wrong": rb"""| id | label |
| --- | --- |
| 3 | a\|b |
| 4 | None |""",
    }
