"""How much of the disk the other trials will need, from those that have ended."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dlsweep.drive.progress import size
from dlsweep.folders.rundir import Result, RunDir
from dlsweep.folders.studydir import StudyDir
from dlsweep.run.keeping import Keep, checkpoints_of
from dlsweep.sweep.forecast import Forecast
from dlsweep.sweep.space import SearchSpace
from dlsweep.sweep.study import Study, StudySettings

WEIGHTS, OPTIMIZER, LOG, SHARED = 100_000, 300_000, 50_000, 40_000


def write(folder: Path) -> None:
    (folder / "weights").write_text("w" * WEIGHTS)
    (folder / "optimizer").write_text("o" * OPTIMIZER)


@pytest.fixture
def need(
    make_run: Callable[..., RunDir], make_space: Callable[..., SearchSpace]
) -> Callable[[Keep], float]:
    """What 100 trials need after four, of which two are completed and keep their weights."""
    sampler = {"_target_": "optuna.samplers.RandomSampler"}
    settings = StudySettings("s", None, ["val/accuracy"], ["maximize"], sampler, {})
    study = Study(settings, make_space("seed=range(9)"))
    study.begin()
    for number in range(4):
        run = make_run(name=f"{number:04d}")
        run.log_file.write_text("l" * LOG)
        result = Result("completed" if number % 2 else "crashed", metrics={"val/accuracy": 0.5})
        run.write_result(result)
        study.tell(study.ask(), result)
        for step in (1, 2) if number % 2 else ():
            metrics = {"val/accuracy": step / 10}
            checkpoints_of(run).save(step, write, metrics, resume_only=["optimizer"])
    folder = StudyDir(run.path.parent.parent)
    (folder.path / "csv").mkdir()
    (folder.path / "csv" / "all.csv").write_text("c" * SHARED)
    (folder.path / "code").mkdir()
    (folder.path / "code" / "large.py").write_text("#" * 10_000_000)
    return lambda keep: Forecast(folder, study, keep, 104, None).need(100)


@pytest.mark.parametrize(
    ("keep", "kept"),
    [
        ("best", 50 * WEIGHTS),
        (10, 8 * WEIGHTS),
        (1, 0),
        ("all", 100 * (WEIGHTS + OPTIMIZER)),
    ],
)
def test_the_policy_decides(need: Callable[[Keep], float], keep: Keep, kept: float) -> None:
    others = 100 * (LOG + SHARED / 4)
    assert need(keep) == pytest.approx(kept + others, rel=0.1)


def test_sizes_are_said_in_words() -> None:
    assert [size(count) for count in (0, 999, 1000, 12_345_678, 3.2e9, 5e13)] == [
        "0 bytes",
        "999 bytes",
        "1 kB",
        "12.3 MB",
        "3.2 GB",
        "50 TB",
    ]
