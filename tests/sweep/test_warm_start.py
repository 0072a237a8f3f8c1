"""A sampler starts with the trials of earlier studies; the study itself has only its own."""

from __future__ import annotations

import contextlib
import json
import pickle
import shutil
import sqlite3
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest

from dlsweep.errors import ConfigError, DlsweepError, SpaceError, StudyChangedError, StudyError
from dlsweep.folders.rundir import Result
from dlsweep.folders.studydir import StudyDir
from dlsweep.sweep.earlier import EarlierStudy, EarlierTrial, read, store
from dlsweep.sweep.plan import show_plan
from dlsweep.sweep.space import SearchSpace
from dlsweep.sweep.study import Study, StudySettings
from dlsweep.sweep.warm_start import WarmStart

X, Y, OPTIMIZER = "training.x", "training.y", "training/optimizer"
SPACE = ("+training.x=interval(-5.0,5.0)", "+training.y=interval(-5.0,5.0)")
SAMPLERS: dict[str, dict[str, Any]] = {
    "tpe": {"_target_": "optuna.samplers.TPESampler", "n_startup_trials": 10},
    "cmaes": {"_target_": "optuna.samplers.CmaEsSampler", "n_startup_trials": 1},
    "nsgaii": {"_target_": "optuna.samplers.NSGAIISampler", "population_size": 4},
    "nsgaiii": {"_target_": "optuna.samplers.NSGAIIISampler", "population_size": 4},
}
MEDIAN = {"_target_": "optuna.pruners.MedianPruner"}

Make = Callable[..., SearchSpace]


def loss(params: Mapping[str, Any], shift: float = 0.0) -> float:
    return float((params[X] - 2 - shift) ** 2 + (params.get(Y, -1.0) + 1) ** 2)


def run(study: Study, count: int, shift: float = 0.0) -> list[dict[str, Any]]:
    asked = []
    for _ in range(count):
        trial = study.ask()
        asked.append(trial.params)
        study.tell(trial, Result("completed", metrics={"loss": loss(trial.params, shift)}))
    return asked


def settings(sampler: str | dict[str, Any] = "tpe", **changes: Any) -> StudySettings:
    fields: dict[str, Any] = {
        "name": "study",
        "storage": None,
        "objective": ["loss"],
        "directions": ["minimize"],
        "sampler": {"seed": None, **(SAMPLERS[sampler] if isinstance(sampler, str) else sampler)},
        "pruner": {},
        "seed": 0,
    }
    return StudySettings(**{**fields, **changes})


def completed(*points: dict[str, Any]) -> list[EarlierStudy]:
    trials = [EarlierTrial(point, [loss({X: 0, **point})], None, False) for point in points]
    return [EarlierStudy("outputs/old", trials, 0)]


#: Points on a lattice over the space, the best of them at (2, -1).
EARLIER = completed(*({X: float(x), Y: float(y)} for x in range(-4, 5, 2) for y in range(-5, 6, 2)))


@pytest.fixture
def finished(make_space: Make, tmp_path: Path) -> Callable[..., Path]:
    """Writes the folder of a finished study, as its driver does."""

    def write(
        name: str = "old",
        space: Sequence[str] = SPACE,
        points: Sequence[dict[str, Any]] = ({X: 1.0, Y: 0.0}, {X: 2.0, Y: -1.0}),
        status: str = "completed",
        **changes: Any,
    ) -> Path:
        folder = StudyDir(tmp_path / name)
        folder.create()
        storage = f"sqlite:///{folder.database}"
        asked = settings(storage=storage, **changes)
        study = Study(asked, make_space(*space))
        study.begin()
        for point in points:
            trial = study.ask(point)
            metrics = {one: loss({X: 0, **point}) for one in asked.objective}
            result = Result(status, metrics=metrics if status == "completed" else {})  # type: ignore[arg-type]
            study.tell(trial, result, infeasible=status == "out_of_memory")
        study.close()
        record = {"name": asked.name, "storage": storage, "objective": asked.objective}
        record |= {"directions": asked.directions, "command": [], "tracking": {}}
        folder.write_info(record)
        return folder.path

    return write


def read_for(folder: Path, *named: Any, objective: str = "loss") -> list[EarlierStudy]:
    return read([str(one) for one in named], StudyDir(folder), [objective], ["minimize"])


@pytest.mark.parametrize("sampler", ["tpe", "cmaes"])
def test_the_first_points_are_near_the_earlier_best(make_space: Make, sampler: str) -> None:
    points = run(Study(settings(sampler, warm_start=EARLIER), make_space(*SPACE)), 8)
    assert statistics.median(map(loss, points)) < 4, "a random point's is 16"


@pytest.mark.parametrize("sampler", ["nsgaii", "nsgaiii"])
def test_the_first_points_descend_from_the_earlier_best(make_space: Make, sampler: str) -> None:
    points = run(Study(settings(sampler, warm_start=EARLIER), make_space(*SPACE)), 8)
    inherited = [value for point in points for value in point.values() if value.is_integer()]
    assert len(inherited) >= 4, "no random value is whole"
    assert {0.0, 2.0, 4.0, -1.0, 1.0, -3.0}.issuperset(inherited)


@pytest.mark.parametrize("sampler", ["tpe", "cmaes", "nsgaii"])
def test_a_shifted_optimum_is_found_in_far_fewer_trials(make_space: Make, sampler: str) -> None:
    def until(study: Study) -> int:
        found = [loss(point, 0.5) <= 0.25 for point in run(study, 60, 0.5)]
        return found.index(True) if any(found) else 60

    space, counts = make_space(*SPACE), []
    for seed in range(10):
        earlier = completed(*run(Study(settings(seed=100 + seed), space), 30))
        warm = until(Study(settings(sampler, seed=seed, warm_start=earlier), space))
        counts.append((until(Study(settings(sampler, seed=seed), space)), warm))
    cold, warm = (statistics.median(column) for column in zip(*counts, strict=True))
    assert warm <= cold / 2, counts


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_earlier_trials_are_none_of_the_study(
    make_space: Make, tmp_path: Path, sampler: str
) -> None:
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    study = Study(settings(sampler, storage=storage, warm_start=EARLIER), make_space(*SPACE))
    study.begin()
    assert (study.finished, study.best, study.finished_trials()) == (0, {}, [])
    points = run(study, 6)
    stored = optuna.load_study(study_name="study", storage=storage)
    assert [trial.number for trial in stored.trials] == list(range(6))
    assert [trial.params for trial in stored.trials] == points
    assert stored.best_trial.number in study.best
    assert "outputs/old" not in json.dumps(stored.user_attrs)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_seed_gives_the_same_trials_also_over_a_resume(
    make_space: Make, tmp_path: Path, sampler: str
) -> None:
    space = make_space(*SPACE)
    expected = run(Study(settings(sampler, warm_start=EARLIER), space), 12)
    parts = []
    for count in (1, 6, 5):
        storage = f"sqlite:///{tmp_path / 'study.db'}"
        study = Study(settings(sampler, storage=storage, warm_start=EARLIER), space)
        study.begin()
        parts += run(study, count)
        study.close()
    assert parts == expected
    assert run(Study(settings(sampler, warm_start=EARLIER, seed=1), space), 12) != expected


@pytest.mark.parametrize("sampler", ["tpe", "nsgaii"])
def test_the_same_seed_does_not_repeat_the_points_of_the_earlier_study(
    make_space: Make, sampler: str
) -> None:
    space = make_space(*SPACE)
    old = run(Study(settings(sampler), space), 3)
    new = run(Study(settings(sampler, warm_start=completed(*old)), space), 3)
    assert not [point for point in new if point in old]


def test_a_pruner_with_brackets_sees_the_studys_own_trials_only(make_space: Make) -> None:
    hyperband = {"_target_": "optuna.pruners.HyperbandPruner", "max_resource": 9}
    study = Study(settings(pruner=hyperband, warm_start=EARLIER), make_space(*SPACE))
    assert statistics.median(map(loss, run(study, 8))) < 4
    assert study.finished == 8


def notes(space: SearchSpace, *points: dict[str, Any]) -> str:
    return "\n".join(WarmStart(completed(*points), space).notes)


def test_the_notes_tell_which_keys_match(make_space: Make) -> None:
    space = make_space(*SPACE, f"{OPTIMIZER}=adam,sgd")
    earlier = completed(
        {X: 1.0, OPTIMIZER: "sgd"}, {X: 9.0}, {X: 1.0, OPTIMIZER: "rprop"}, {"z": 1}
    )
    found = WarmStart([EarlierStudy("outputs/old", earlier[0].trials, failed=2)], space).notes
    assert found == [
        "Warm start from outputs/old: 1 trial (1 completed); the keys training/optimizer, "
        "training.x match.",
        "  New in this study: training.y.",
        "  Left out: 3; for example, training.x=9.0 is outside of interval(-5.0,5.0).",
        "  Left out: 2 that failed, as samplers skip those.",
    ]


@pytest.mark.parametrize(
    ("space", "value", "match"),
    [
        ("seed=interval(0.0,1.0)", 1, 1.0),
        ("seed=interval(0.0,1.0)", True, None),
        ("seed=interval(0.0,1.0)", "0.5", None),
        ("seed=interval(0.0,1.0)", float("nan"), None),
        ("seed=interval(0.0,1.0)", [0.5], None),
        ("seed=int(interval(1,9))", 3.0, 3),
        ("seed=int(interval(1,9))", 3.5, None),
        ("seed=range(16,257,16)", 32, 32),
        ("seed=range(16,257,16)", 33, None),
        ("seed=tag(log,range(1,100,3))", 4, 4),
        ("seed=tag(log,range(1,100,3))", 5, None),
        ("seed=range(0,1,0.1)", 0.3, 0.3),
        ("seed=1,2,null", None, None),
        ("seed=0,true", 1, None),
        ("seed=0,true", True, True),
        ("seed=32,64", 64.0, 64),
        ("seed=a,b", "b", "b"),
        ("seed=a,b", "c", None),
    ],
)
def test_a_value_counts_if_it_is_one_of_todays(
    make_space: Make, space: str, value: Any, match: Any
) -> None:
    trials = [EarlierTrial({"seed": value}, [1.0], None, False)]
    study = [EarlierStudy("outputs/old", trials, 0)]
    if match is None and value is not None:
        with pytest.raises(SpaceError, match="no completed trial within this study's space"):
            WarmStart(study, make_space(space))
        return
    opened = Study(settings(warm_start=study), make_space(space))
    (seen,) = opened.as_optuna.sampler.study.earlier  # type: ignore[attr-defined]
    assert seen.params == {"seed": match}
    assert type(seen.params["seed"]) is type(match)
    opened.ask()


def test_groups_match_with_their_packages(make_space: Make) -> None:
    space = make_space(f"{OPTIMIZER}=adam,sgd", f"{OPTIMIZER}@other=adam,sgd")
    found = notes(space, {OPTIMIZER: "adam"})
    assert "the keys training/optimizer match" in found
    assert "New in this study: training/optimizer@other." in found


def test_tpe_takes_each_key_that_a_trial_has(make_space: Make) -> None:
    earlier = completed(*({X: x / 2} for x in range(-10, 11)))
    study = Study(settings(warm_start=earlier), make_space(*SPACE))
    points = run(study, 8)
    assert statistics.median(abs(point[X] - 2) for point in points) < 1.5


@pytest.mark.parametrize("sampler", ["nsgaii", "nsgaiii"])
def test_a_sampler_of_whole_points_skips_those_in_part(make_space: Make, sampler: str) -> None:
    part = [EarlierStudy("outputs/part", completed({X: 1.0})[0].trials, 0)]
    study = Study(settings(sampler, warm_start=[*EARLIER, *part]), make_space(*SPACE))
    run(study, 3)
    assert study.notes[-1].startswith("  Left out: 1 without every key, which ")
    with pytest.raises(SpaceError, match=f"lack {Y}") as error:
        Study(settings(sampler, warm_start=part), make_space(*SPACE))
    assert "hydra/sweeper/sampler=tpe" in str(error.value)


@pytest.mark.parametrize("sampler", ["tpe", "nsgaii"])
def test_a_key_that_is_inactive_under_a_choice_is_not_missed(
    make_space: Make, sampler: str
) -> None:
    momentum = "training.optimizer.momentum"
    space = make_space(f"{OPTIMIZER}=adam,sgd", f"{momentum}=interval(0.0,0.9)", SPACE[0])
    points = [{OPTIMIZER: "adam", X: n / 5} for n in range(6)]
    points += [{OPTIMIZER: "sgd", momentum: n / 10, X: n / 5} for n in range(6)]
    study = Study(settings(sampler, warm_start=completed(*points)), space)
    assert study.notes == [
        "Warm start from outputs/old: 12 trials (12 completed); the keys training/optimizer, "
        f"{momentum}, {X} match."
    ]
    for point in run(study, 6):
        assert (momentum in point) == (point[OPTIMIZER] == "sgd")


@pytest.mark.parametrize(
    ("space", "points", "message"),
    [
        (SPACE, [{X: 1.0, Y: 1.0}] * 9, "needs 10 completed trials"),
        ((f"{OPTIMIZER}=adam,sgd",), [{OPTIMIZER: "sgd"}] * 10, r"\(it has none\)"),
        (
            (f"{OPTIMIZER}=adam,sgd", "training.optimizer.momentum=interval(0.0,0.9)"),
            [{OPTIMIZER: "adam"}] * 10,
            "training.optimizer.momentum does not",
        ),
    ],
)
def test_cmaes_says_what_it_needs(
    make_space: Make, space: Sequence[str], points: list[dict[str, Any]], message: str
) -> None:
    with pytest.raises(SpaceError, match=message):
        Study(settings("cmaes", warm_start=completed(*points)), make_space(*space))


@pytest.mark.parametrize("sampler", ["RandomSampler", "QMCSampler", "BruteForceSampler"])
def test_a_sampler_that_learns_nothing_is_refused(make_space: Make, sampler: str) -> None:
    config = {"_target_": f"optuna.samplers.{sampler}", "seed": None}
    with pytest.raises(ConfigError, match=f"{sampler} cannot start from trials") as error:
        Study(settings(config, warm_start=EARLIER), make_space(*SPACE))
    assert "hydra/sweeper/sampler=tpe, gp, cmaes, nsgaii or nsgaiii" in str(error.value)


def test_a_point_that_ran_out_of_memory_is_infeasible_here_too(
    make_space: Make, finished: Callable[..., Path], tmp_path: Path
) -> None:
    good = [{X: -n / 2.4, Y: 0.0} for n in range(13)]
    bad = [{X: n / 2.4, Y: 0.0} for n in range(1, 13)]
    studies = [finished("good", points=good), finished("bad", points=bad, status="out_of_memory")]
    with pytest.raises(ConfigError, match="has no completed trial"):
        read_for(tmp_path, studies[1])
    # As one study has both, so that what is out of memory comes with something completed.
    trials = read_for(tmp_path, studies[0])[0].trials
    trials += [EarlierTrial(point, None, None, True) for point in bad]
    study = Study(settings(warm_start=[EarlierStudy("both", trials, 0)]), make_space(*SPACE))
    assert "(13 completed, 12 infeasible)" in study.notes[0]
    shares = []
    for known in (trials, trials[:13]):
        earlier = [EarlierStudy("both", known, 0)]
        study = Study(settings(warm_start=earlier), make_space(*SPACE))
        shares.append(statistics.mean(study.ask().params[X] > 0.5 for _ in range(30)))
    assert shares[0] < 0.4 < shares[1], "the share of points where memory runs out"


def test_pruned_and_failed_trials_are_read_as_optuna_reads_its_own(
    make_space: Make, finished: Callable[..., Path], tmp_path: Path
) -> None:
    folder = finished()
    stored = optuna.load_study(study_name="study", storage=f"sqlite:///{folder}/study.db")
    for state in (optuna.trial.TrialState.PRUNED, optuna.trial.TrialState.FAIL):
        trial = stored.ask()
        trial.suggest_float(X, -5.0, 5.0)
        trial.report(7.0, step=3)
        stored.tell(trial, state=state)
    stored.ask()
    (study,) = read_for(tmp_path, folder)
    assert (len(study.trials), study.failed) == (3, 1)
    assert (study.trials[2].values, study.trials[2].last) == (None, [3, 7.0])
    opened = Study(settings(warm_start=[study]), make_space(*SPACE))
    seen = opened.as_optuna.sampler.study.earlier[2]  # type: ignore[attr-defined]
    assert (seen.state.name, seen.intermediate_values) == ("PRUNED", {3: 7.0})


def test_a_study_keeps_its_warm_start_whatever_becomes_of_the_earlier_one(
    finished: Callable[..., Path], tmp_path: Path
) -> None:
    old, new = finished(), StudyDir(tmp_path / "new")
    new.create()
    studies = read_for(new.path, old)
    store(studies, new)
    shutil.rmtree(old)
    assert read_for(new.path, old) == studies
    with pytest.raises(StudyError, match="is not a study folder"):
        read_for(new.path, old, tmp_path / "more")
    assert read_for(tmp_path / "another") == []


def test_another_warm_start_is_another_study(make_space: Make, tmp_path: Path) -> None:
    def opened(folders: str) -> Study:
        identity = {"hydra.sweeper.warm_start": folders}
        storage = f"sqlite:///{tmp_path / 'study.db'}"
        return Study(settings(storage=storage, identity=identity), make_space(*SPACE))

    opened('["outputs/old"]').begin()
    with pytest.raises(StudyChangedError, match=r"warm_start: was \[\"outputs/old\"\], is \[\]"):
        opened("[]")


def test_a_plan_tells_what_matches(make_space: Make, capsys: pytest.CaptureFixture[str]) -> None:
    show_plan(settings(warm_start=EARLIER), make_space(*SPACE), n_trials=2, grid=False)
    shown = capsys.readouterr().out
    assert "Warm start from outputs/old: 30 trials (30 completed)" in shown


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ({"objective": ["accuracy"]}, "'accuracy', and this study is to minimize 'loss'"),
        ({"directions": ["maximize"]}, "is to maximize 'loss', and this study is to minimize"),
        (
            {"objective": ["loss", "time"], "directions": ["minimize"] * 2},
            "is to minimize 'loss' and minimize 'time', and this study",
        ),
        ({"points": ()}, "has no completed trial"),
        ({"status": "crashed"}, "has no completed trial"),
    ],
)
def test_a_study_that_teaches_nothing_is_refused(
    finished: Callable[..., Path], tmp_path: Path, made: dict[str, Any], message: str
) -> None:
    folder = finished(**made)
    with pytest.raises(ConfigError) as error:
        read_for(tmp_path / "new", folder)
    assert message in str(error.value)
    assert str(folder) in str(error.value)


def test_a_space_with_nothing_in_common_is_refused(make_space: Make) -> None:
    with pytest.raises(SpaceError, match=r"outputs/old has no key of this study\. It sweeps seed;"):
        WarmStart(completed({"seed": 1}), make_space(*SPACE))


@pytest.mark.parametrize(
    ("named", "message"),
    [
        (3, "Received 3. Expected folders of studies"),
        ([3], r"Received \[3\]. Expected folders of studies"),
        (["{new}"], "the folder of this study itself"),
        (["{old}", "{new}/../old"], "twice"),
        (["{new}/nothing"], "is not a study folder"),
    ],
)
def test_what_is_no_earlier_study_is_refused(
    finished: Callable[..., Path], tmp_path: Path, named: Any, message: str
) -> None:
    finished()
    new = StudyDir(tmp_path / "new")
    new.create()
    if isinstance(named, list) and named != [3]:
        named = [one.format(old=tmp_path / "old", new=new.path) for one in named]
    with pytest.raises(DlsweepError, match=message):
        read(named, new, ["loss"], ["minimize"])


def test_one_folder_needs_no_list(finished: Callable[..., Path], tmp_path: Path) -> None:
    folder = str(finished())
    (study,) = read(folder, StudyDir(tmp_path / "new"), ["loss"], ["minimize"])
    assert study.folder == folder


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("open('owned', 'w')",)


def test_nothing_in_an_earlier_study_is_executed(
    make_space: Make, finished: Callable[..., Path], tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = finished(points=[{X: n / 5, Y: 0.0} for n in range(12)])
    stored = optuna.load_study(study_name="study", storage=f"sqlite:///{folder}/study.db")
    (trial, *_) = stored.trials
    trial.system_attrs = {"cma:optimizer:0": pickle.dumps(Evil()).hex(), "cma:generation": 0}
    stored.add_trial(trial)
    study = Study(settings("cmaes", warm_start=read_for(tmp_path, folder)), make_space(*SPACE))
    run(study, 5)
    assert not (tmp_path / "owned").exists()


def test_a_damaged_study_is_a_sentence(finished: Callable[..., Path], tmp_path: Path) -> None:
    folder = StudyDir(finished())
    with contextlib.closing(sqlite3.connect(folder.database)) as rows:
        rows.execute("UPDATE trial_params SET distribution_json = '{}'")
        rows.commit()
    with pytest.raises(StudyError, match=r"The database in .* cannot be read"):
        read_for(tmp_path / "new", folder.path)
    folder.database.write_text("no database, for sure " * 100)
    with pytest.raises(StudyError, match="cannot be opened"):
        read_for(tmp_path / "new", folder.path)
    folder.database.unlink()
    folder.write_info({**folder.info(), "storage": "postgresql://far/away"})
    with pytest.raises(ConfigError, match="no command of yours has named"):
        read_for(tmp_path / "new", folder.path)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"studies": [{"folder": "old"}]}',
        '{"studies": [{"folder": "old", "failed": 0, "trials": [{"params": {}}]}]}',
        '{"studies": [{"folder": "old", "failed": 0, "trials": [{"params": {"a": 1}, "values": '
        '[1, 2], "last": null, "infeasible": false}]}]}',
        '{"studies": [{"folder": "old", "failed": 0, "trials": [{"params": {"a": 1}, "values": '
        '[NaN], "last": null, "infeasible": false}]}]}',
        '{"studies": [{"folder": "old", "failed": 0, "trials": [{"params": 3, "values": [1], '
        '"last": null, "infeasible": false}]}]}',
    ],
)
def test_a_damaged_copy_is_a_sentence(tmp_path: Path, text: str) -> None:
    folder = StudyDir(tmp_path)
    folder.warm_start.write_text(text)
    with pytest.raises(StudyError, match=r"warm_start\.json is damaged"):
        read_for(tmp_path, "old")
