"""Optuna's record: what is asked is kept, what is told counts, and nothing is lost by a kill."""

from __future__ import annotations

import contextlib
import json
import pickle
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from dlsweep.errors import ConfigError, StudyChangedError, StudyError
from dlsweep.folders.rundir import Record, Result
from dlsweep.folders.studydir import StudyDir
from dlsweep.run.run import Run
from dlsweep.sweep.space import SearchSpace
from dlsweep.sweep.study import Study, StudySettings
from dlsweep.trial.task import execute

TPE = {"_target_": "optuna.samplers.TPESampler", "seed": None, "n_startup_trials": 3}
RANDOM = {"_target_": "optuna.samplers.RandomSampler", "seed": None}
MEDIAN = {"_target_": "optuna.pruners.MedianPruner", "n_startup_trials": 1}
CHOICE, MOMENTUM = "training/optimizer", "training.optimizer.momentum"


@pytest.fixture(scope="session")
def space(make_space: Callable[..., SearchSpace]) -> SearchSpace:
    return make_space(f"{CHOICE}=adam,sgd", f"{MOMENTUM}=interval(0.0,0.9)", "seed=range(100)")


@pytest.fixture
def open_study(space: SearchSpace, tmp_path: Path) -> Callable[..., Study]:
    def opened(over: SearchSpace = space, on_disk: bool = False, **changes: Any) -> Study:
        fields: dict[str, Any] = {
            "name": "study",
            "storage": storage(tmp_path) if on_disk else None,
            "objective": ["loss"],
            "directions": ["minimize"],
            "sampler": RANDOM,
            "pruner": {},
            "seed": 0,
        }
        study = Study(StudySettings(**{**fields, **changes}), over)
        study.begin()
        return study

    return opened


def storage(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'study.db'}"


def completed(**metrics: float) -> Result:
    return Result("completed", metrics=metrics)


def losses(*values: float) -> list[Record]:
    return [Record(step, 0.0, {"loss": value}) for step, value in enumerate(values)]


def test_what_is_asked_is_stored_before_anything_is_launched(open_study, tmp_path: Path) -> None:
    trial = open_study(on_disk=True).ask()
    stored = optuna.load_study(study_name="study", storage=storage(tmp_path)).trials[0]
    assert stored.state is TrialState.RUNNING
    assert stored.user_attrs["point"] == {"params": trial.params, "overrides": trial.overrides}
    assert trial.overrides[0] == f"{CHOICE}={trial.params[CHOICE]}"


def test_the_objectives_have_their_names_in_optuna_too(open_study, tmp_path: Path) -> None:
    open_study(on_disk=True)
    stored = optuna.load_study(study_name="study", storage=storage(tmp_path))
    assert stored.metric_names == ["loss"]
    stored._storage.set_study_system_attr(stored._study_id, "study:metric_names", None)
    open_study(on_disk=True)
    assert stored.metric_names == ["loss"], "a study of before is given them"


def test_a_reopened_study_goes_on_where_it_stopped(open_study) -> None:
    study = open_study(on_disk=True, pruner=MEDIAN)
    done, left = study.ask(), study.ask()
    study.tell(done, completed(loss=2.0))
    study.judge(left, losses(5, 4))
    again = open_study(on_disk=True, pruner=MEDIAN)
    (found,) = again.open_trials()
    assert (found.number, found.params, found.overrides) == (1, left.params, left.overrides)
    assert found.curve == {0: 5, 1: 4}
    assert not again.judge(found, losses(5, 4, 3))  # a step told twice would warn
    assert again.ask().number == 2
    assert (again.finished, again.best) == (1, {0: [2.0]})


@pytest.mark.parametrize("suggested", [0, 1])
def test_a_trial_killed_between_asking_and_storing_its_point_gets_one(
    open_study, tmp_path: Path, suggested: int
) -> None:
    open_study(on_disk=True)
    torn = optuna.load_study(study_name="study", storage=storage(tmp_path)).ask()
    if suggested:
        torn.suggest_categorical(CHOICE, ["adam", "sgd"])
    (found,) = open_study(on_disk=True).open_trials()
    assert found.number == 0
    assert CHOICE in found.params
    assert {CHOICE: found.params[CHOICE], **torn.params} == {CHOICE: found.params[CHOICE]}
    (same,) = open_study(on_disk=True).open_trials()
    assert (same.params, same.overrides) == (found.params, found.overrides)


def test_another_space_or_value_is_refused_with_the_difference(open_study) -> None:
    identity = {"space of seed": "range(100)", "training.epochs": "5", "data.folder": "null"}
    open_study(on_disk=True, identity=identity)
    open_study(on_disk=True, identity=dict(reversed(identity.items())))
    changed = {"space of seed": "range(9)", "training.epochs": "5", "training.note": "1"}
    with pytest.raises(StudyChangedError) as error:
        open_study(on_disk=True, identity=changed)
    assert str(error.value).splitlines()[1:4] == [
        "  data.folder: was null, is absent",
        "  space of seed: was range(100), is range(9)",
        "  training.note: was absent, is 1",
    ]
    assert "hydra.sweeper.study_name=<a new name>" in str(error.value)


def test_a_value_that_has_become_an_interpolation_is_the_same_if_it_resolves_to_it(
    open_study,
) -> None:
    open_study(on_disk=True, identity={"training.loss": '"mse"', "training.mode": '"max"'})
    today = {"training.loss": '"${by:task}"', "training.mode": '"max"'}
    with pytest.raises(StudyChangedError, match=r"training\.loss: was \"mse\", is \"\$"):
        open_study(on_disk=True, identity=today, resolved={"training.loss": '"cross_entropy"'})
    open_study(on_disk=True, identity=today, resolved={"training.loss": '"mse"'})
    open_study(on_disk=True, identity=today)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"training._target_": "os.system"}, "'training._target_' is not swept"),
        ({"seed": "1 training._target_=os.system"}, "is outside of its space"),
    ],
)
def test_a_record_makes_an_open_trial_do_nothing_but_what_is_swept(
    open_study, tmp_path: Path, params: dict, message: str
) -> None:
    asked = open_study(on_disk=True).ask()
    stored = optuna.load_study(study_name="study", storage=storage(tmp_path))
    evil = {"params": asked.params, "overrides": ["training._target_=os.system"]}
    stored._storage.set_trial_user_attr(stored.trials[0]._trial_id, "point", evil)
    assert open_study(on_disk=True).open_trials()[0].overrides == asked.overrides
    evil = {**evil, "params": params}
    stored._storage.set_trial_user_attr(stored.trials[0]._trial_id, "point", evil)
    with pytest.raises(ConfigError, match=re.escape(message)):
        open_study(on_disk=True).open_trials()


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("open('owned', 'w')",)


@pytest.mark.parametrize("kind", [{}, {"use_separable_cma": True}, {"with_margin": True}])
def test_a_pickle_in_a_record_is_refused_unless_it_is_an_optimizer(
    open_study, make_space, tmp_path: Path, kind: dict, monkeypatch
) -> None:
    """Optuna's CMA-ES keeps its state as a pickle, and loads what it finds there."""
    monkeypatch.chdir(tmp_path)
    cmaes = {"_target_": "optuna.samplers.CmaEsSampler", "n_startup_trials": 1, **kind}
    options = {"over": make_space("training.optimizer.lr=interval(0,1)", "seed=range(100)")}
    options |= {"on_disk": True, "sampler": cmaes}
    drawn(open_study(**options), 12)
    drawn(open_study(**options), 1)
    with contextlib.closing(sqlite3.connect(tmp_path / "study.db")) as record:
        change = "UPDATE trial_system_attributes SET value_json = ? WHERE key LIKE ?"
        evil = pickle.dumps(Evil()).hex()
        assert record.execute(change, ['""', "%:optimizer:%"]).rowcount
        record.execute(change, [json.dumps(evil), "%:optimizer:0"])
        record.commit()
    with pytest.raises(StudyError, match=r"would call builtins\.exec"):
        open_study(**options)
    assert not (tmp_path / "owned").exists()


def test_enqueued_points_come_first_and_once(open_study) -> None:
    points = [{CHOICE: "sgd", MOMENTUM: 0.5, "seed": 7}, {CHOICE: "adam"}]
    asked = [open_study(on_disk=True, enqueue=points).ask().params]
    asked += [open_study(on_disk=True, enqueue=points).ask().params for _ in range(3)]
    assert asked[0] == points[0]
    assert asked[1][CHOICE] == "adam"
    assert points[0] not in asked[2:]


@pytest.mark.parametrize(
    ("point", "message"),
    [
        ({"sed": 1}, "'sed' is not swept. Did you mean 'seed'?"),
        ({"seed": 100}, "seed=100 is outside of its space, range(100)"),
        ({"seed": "many"}, "seed=many is outside of its space"),
        ({CHOICE: "adamw"}, "training/optimizer=adamw is outside of its space, adam,sgd"),
    ],
)
def test_a_point_that_cannot_be_tried_is_refused(open_study, point: dict, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        open_study(enqueue=[point])
    assert message in str(error.value)


def drawn(study: Study, count: int) -> list[dict]:
    asked = []
    for _ in range(count):
        trial = study.ask()
        asked.append(trial.params)
        study.tell(trial, completed(loss=float(trial.params["seed"])))
    return asked


def test_a_seed_gives_the_same_trials_also_over_a_resume(open_study) -> None:
    expected = drawn(open_study(sampler=TPE), 8)
    assert len({str(point) for point in expected}) == 8
    parts = drawn(open_study(sampler=TPE, on_disk=True), 5)
    parts += drawn(open_study(sampler=TPE, on_disk=True), 3)
    assert parts == expected
    assert drawn(open_study(sampler=TPE, seed=1), 8) != expected
    assert drawn(open_study(sampler={**TPE, "seed": 0}, seed=None), 8) == expected


@pytest.mark.parametrize("sampler", ["BruteForceSampler", "GridSampler"])
def test_a_sampler_that_has_tried_all_says_so(open_study, make_space, sampler: str) -> None:
    space = make_space("seed=1,2", "data.seed=range(2)")
    study = open_study(space, sampler={"_target_": f"optuna.samplers.{sampler}", "seed": None})
    tried = []
    while not study.is_exhausted:
        tried += drawn(study, 1)
        assert len(tried) <= 4
    assert sorted(map(str, tried)) == sorted(map(str, space.points()))


def test_the_grid_sampler_refuses_an_interval(open_study) -> None:
    with pytest.raises(ConfigError) as error:
        open_study(sampler={"_target_": "optuna.samplers.GridSampler", "seed": None})
    assert f"{MOMENTUM} is an interval" in str(error.value)
    assert "hydra/sweeper/sampler=tpe" in str(error.value)


def test_a_sweep_can_state_the_point_itself(open_study, make_space) -> None:
    space = make_space("model.dropout=range(0,0.9,0.3)", "training/optimizer=adam,sgd")
    study = open_study(space)
    assert [study.ask(point).params for point in space.points()] == list(space.points())


@pytest.mark.parametrize(("direction", "best"), [("minimize", 1), ("maximize", 0)])
def test_the_best_is_the_first_that_none_beats(open_study, direction: str, best: int) -> None:
    study = open_study(on_disk=True, directions=[direction])
    for value in (3.0, 1.0, 1.0, 2.0):
        study.tell(study.ask(), completed(loss=value))
    assert list(study.best) == [best]
    assert open_study(on_disk=True, directions=[direction]).best == study.best


def test_several_objectives_have_a_front(open_study) -> None:
    options = {"objective": ["loss", "seconds"], "directions": ["minimize", "minimize"]}
    study = open_study(on_disk=True, **options)
    for loss, seconds in ((3.0, 1.0), (1.0, 3.0), (2.0, 2.0), (3.0, 3.0), (1.0, 3.0)):
        study.tell(study.ask(), completed(loss=loss, seconds=seconds))
    assert set(study.best) == {0, 1, 2}
    assert {tuple(values) for values in open_study(on_disk=True, **options).best.values()} == {
        tuple(values) for values in study.best.values()
    }


def test_several_objectives_cannot_prune(open_study) -> None:
    with pytest.raises(ConfigError, match="hydra/sweeper/pruner=none"):
        open_study(objective=["a", "b"], directions=["minimize"] * 2, pruner=MEDIAN)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_value_that_is_no_finite_number_is_never_best(
    open_study, make_run: Callable, value: float
) -> None:
    folder = make_run(objective=["loss"], directions=["minimize"])
    study = open_study()
    with Run.open(folder.path) as run:
        assert execute(run, lambda _: {"loss": value}) == 1
    study.tell(study.ask(), folder.result())
    assert study.best == {}
    (failed,) = study.finished_trials()
    assert failed.state is TrialState.FAIL
    assert failed.user_attrs["reason"].startswith("diverged: loss is")


def test_an_interrupted_trial_stays_open_and_a_pruned_one_is_over(open_study) -> None:
    study = open_study(on_disk=True)
    study.tell(study.ask(), Result("interrupted"))
    study.tell(study.ask(), Result("pruned"))
    study.tell(study.ask(), Result("killed", "killed by SIGKILL"))
    again = open_study(on_disk=True)
    assert [trial.number for trial in again.open_trials()] == [0]
    assert [trial.state.name for trial in again.finished_trials()] == ["PRUNED", "FAIL"]
    assert again.finished == study.finished == 2


def test_a_trial_that_falls_behind_is_pruned(open_study) -> None:
    study = open_study(pruner=MEDIAN)
    good, bad = study.ask(), study.ask()
    assert not study.judge(good, losses(3, 2, 1))
    study.tell(good, completed(loss=1.0))
    assert not study.judge(bad, losses(3))
    assert study.judge(bad, losses(3, 9))


def test_records_without_the_objective_are_not_judged(open_study) -> None:
    study = open_study(pruner=MEDIAN)
    trial = study.ask()
    assert not study.judge(trial, [Record(4, 0.0, {"other": 1.0})])
    assert trial.curve == {}


def test_no_pruner_judges_nothing(open_study) -> None:
    study = open_study()
    study.tell(study.ask(), completed(loss=1.0))
    assert not study.judge(study.ask(), losses(*range(1000, 1020)))


@pytest.mark.parametrize(
    "changes",
    [
        {"sampler": {"_target_": "optuna.samplers.NoSuchSampler"}},
        {"sampler": {**TPE, "startup": 3}},
        {"pruner": {"_target_": "nosuchmodule.Pruner"}},
        {"pruner": {**MEDIAN, "n_startup_trials": -1}},
    ],
)
def test_a_sampler_or_pruner_that_cannot_be_built_is_named(open_study, changes: dict) -> None:
    ((role, config),) = changes.items()
    with pytest.raises(ConfigError) as error:
        open_study(**changes)
    assert f"hydra.sweeper.{role}: {config['_target_']} cannot be built" in str(error.value)
    assert f"hydra.sweeper.{role}.<name>=<value>" in str(error.value)


def test_a_storage_that_cannot_be_opened_is_named(open_study) -> None:
    with pytest.raises(StudyError, match="nosuchdatabase://host/study cannot be opened"):
        open_study(storage="nosuchdatabase://host/study")


def test_a_file_that_is_no_database_is_named(open_study, tmp_path: Path) -> None:
    (tmp_path / "study.db").write_text("no database, for sure " * 100)
    with pytest.raises(StudyError, match=r"study\.db cannot be opened"):
        open_study(on_disk=True)


def test_studies_of_one_name_in_one_database_do_not_mix(open_study, space, tmp_path) -> None:
    def opened(name: str, url: str = storage(tmp_path)) -> Study:
        folder = StudyDir(tmp_path / name)
        return Study(StudySettings("study", url, ["loss"], ["minimize"], RANDOM, {}), space, folder)

    first = opened("first")
    first.begin()
    with pytest.raises(StudyError, match=r"study 'study' already.*another folder, \S+/first\."):
        opened("second")
    info = {"id": first._owner["id"], "storage": storage(tmp_path), "tracking": {}}
    StudyDir(tmp_path / "first").write_info(info)
    (tmp_path / "first").rename(tmp_path / "moved")
    assert opened("moved").finished == 0


def test_a_database_without_the_trials_of_the_folder_is_refused(space, tmp_path) -> None:
    folder = StudyDir(tmp_path / "first")
    (folder.trials / "0003").mkdir(parents=True)
    folder.write_info({"id": "1", "storage": "postgresql://me:pw@host/db", "tracking": {}})
    asked = StudySettings("study", storage(tmp_path), ["loss"], ["minimize"], RANDOM, {})
    with pytest.raises(StudyError, match=r"contains trial 0003, and .* has no trials") as raised:
        Study(asked, space, folder)
    assert "hydra.sweeper.storage=postgresql://me:***@host/db\n" in str(raised.value)
