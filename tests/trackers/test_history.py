from __future__ import annotations

import pytest

from dlsweep.folders.rundir import Result
from dlsweep.folders.studydir import StudyDir
from dlsweep.trackers.history import best_so_far


@pytest.mark.parametrize(
    ("direction", "best"), [("maximize", [0.5, 0.5, 0.75]), ("minimize", [0.5, 0.25, 0.25])]
)
def test_the_curve_has_the_best_value_up_to_each_completed_trial(make_run, direction, best):
    ends = [
        Result("completed", metrics={"loss": 0.5}, ended=10.0),
        Result("pruned", metrics={"loss": 9.0}, ended=11.0),
        Result("stopped_early", metrics={"loss": 0.25}, ended=9.0),
        Result("crashed"),
        Result("completed", metrics={"loss": 0.75}, ended=12.0),
    ]
    for number, end in enumerate(ends):
        run = make_run(name=f"{number:04d}")
        run.write_result(end)
    study = StudyDir(run.path.parents[1])
    (study.trials / "notes.txt").touch()
    info = {"objective": ["loss"], "directions": [direction], "finished": 13.0}
    points = best_so_far(study, info)
    assert [(one.trial, one.time) for one in points] == [(0, 10.0), (2, 9.0), (4, 12.0)]
    assert [one.value for one in points] == best
    assert best_so_far(study, {**info, "finished": 14.0}) == points
    del info["finished"]
    assert best_so_far(study, info) == []
