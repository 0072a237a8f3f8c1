"""Which points are said not to fit into memory, and from which trials that is known."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from dlsweep.drive.progress import Counts, View
from dlsweep.folders.rundir import Result
from dlsweep.sweep.growth import Growth, encoded, fit
from dlsweep.sweep.memory import MemoryForecast
from dlsweep.sweep.space import Dimension, SearchSpace
from dlsweep.sweep.study import Study, StudySettings

WIDTH = "+training.width=tag(log,int(interval(100,100000)))"
RATE = "training.optimizer.lr=interval(0.0,1.0)"
SIZE = "training.batch_size=choice(32,64,128,256)"
SCHEDULER = "training/scheduler=cosine,step"
BASE, LIMIT = 300_000_000, 800_000_000


def bytes_of(point: dict[str, Any]) -> int:
    """What a training needs: its weights, and its activations for each example of a batch."""
    width, batch = point["training.width"], point.get("training.batch_size", 64)
    return int(BASE + 40 * width * math.sqrt(width) + 500 * batch * width)


class Memory:
    """A study whose trials need memory, and what is predicted of others."""

    def __init__(self, space: SearchSpace) -> None:
        sampler = {"_target_": "optuna.samplers.RandomSampler", "seed": None}
        settings = StudySettings("s", None, ["val/loss"], ["minimize"], sampler, {}, seed=3)
        self.study = Study(settings, space)
        self.study.begin()
        self.view = View([], Counts(), Console(quiet=True))
        self.said: list[str] = []
        self.view.say = lambda text, level="info": self.said.append(text)  # type: ignore[method-assign]
        self.forecast = self.make()

    def make(self, *nodes: dict[str, int], **limits: int) -> MemoryForecast:
        """A forecast for trials on these nodes; on one with these limits, if none is named."""
        return MemoryForecast(self.study, lambda: nodes or [limits], self.view)

    def try_point(self, point: dict[str, Any], limit: int = LIMIT, noise: float = 0.0) -> str:
        """Runs a trial as a sweep does; returns its status."""
        trial = self.study.ask(point)
        if why := self.forecast.objection(trial):
            result = Result("rejected", why)
        else:
            used = int(bytes_of(trial.params) * (1 + noise))
            fits = used <= limit
            metrics = {"val/loss": 1.0} if fits else {}
            status = "completed" if fits else "out_of_memory"
            reason = "" if fits else "MemoryError"
            peaks = {"host": min(used, limit)}
            result = Result(status, reason, metrics, peak_memory=peaks)  # type: ignore[arg-type]
        self.study.tell(trial, result)
        self.forecast.note(trial.number, trial.params, result)
        return result.status


@pytest.fixture
def memory(make_space: Callable[..., SearchSpace]) -> Callable[..., Memory]:
    return lambda *texts: Memory(make_space(*(texts or (WIDTH, RATE))))


def widths(count: int, least: float = 100, most: float = 100_000) -> list[int]:
    return [round(width) for width in np.geomspace(least, most, count)]


def points(count: int, seed: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    return [
        {
            "training.width": round(100 * 1000 ** rng.uniform()),
            "training.optimizer.lr": float(rng.uniform()),
            "training.batch_size": int(rng.choice([32, 64, 128, 256])),
        }
        for _ in range(count)
    ]


def test_points_larger_than_those_that_ran_out_of_memory_are_rejected(memory) -> None:
    swept = memory()
    for number, width in enumerate([*widths(8, 100, 10_000), 20_000, 30_000]):
        swept.try_point({"training.width": width, "training.optimizer.lr": number * 0.3 % 1})
    assert swept.try_point({"training.width": 90_000, "training.optimizer.lr": 0.1}) == "rejected"
    assert swept.try_point({"training.width": 9_000, "training.optimizer.lr": 0.1}) == "completed"
    stored = swept.study.finished_trials()[-2]
    assert stored.state.name == "PRUNED"
    assert stored.constraints == {"out_of_memory": 1.0}
    why = stored.user_attrs["reason"]
    assert re.fullmatch(
        r"it needs at least 3\.\d+ GB of memory, about 3\.\d+ GB; "
        "2 trials that needed less ran out of it, as 0008, 0009",
        why,
    )


def test_one_trial_that_ran_out_of_memory_may_have_had_bad_luck(memory) -> None:
    swept = memory()
    for width in [*widths(8, 100, 10_000), 20_000]:
        swept.try_point({"training.width": width, "training.optimizer.lr": 0.5})
    point = {"training.width": 90_000, "training.optimizer.lr": 0.5}
    assert swept.try_point(point) == "out_of_memory"
    assert swept.try_point(point) == "out_of_memory", "as large as one, and larger than one"
    assert swept.try_point({**point, "training.width": 100_000}) == "rejected"


def test_no_point_that_fits_is_rejected_and_most_others_are(memory) -> None:
    late = []
    for seed in range(4):
        swept, rng = memory(WIDTH, RATE, SIZE), np.random.default_rng(seed)
        for number, point in enumerate(points(60, seed)):
            status, need = swept.try_point(point, noise=rng.normal(0, 0.01)), bytes_of(point)
            assert status != "rejected" or need > LIMIT
            late += [status] if number >= 30 and need > 2 * LIMIT else []
    assert len(late) > 15
    assert late.count("rejected") > len(late) / 2


def test_what_is_more_than_the_machine_has_needs_no_failure(memory) -> None:
    swept = memory()
    for width in widths(8, 1000, 20_000):
        swept.try_point({"training.width": width, "training.optimizer.lr": 0.5})
    trial = swept.study.ask({"training.width": 100_000, "training.optimizer.lr": 0.5})
    assert not swept.forecast.objection(trial)
    assert not swept.make(host=8_000_000_000_000).objection(trial)
    why = swept.make(host=LIMIT).objection(trial)
    assert why.endswith(", about 4.2 GB; no trial can have more than 800 MB")


def test_a_gpu_has_a_memory_of_its_own(memory) -> None:
    swept = memory()

    def end(width: int, status: Any, reason: str = "", gpu: int = 0) -> None:
        trial = swept.study.ask({"training.width": width, "training.optimizer.lr": 0.5})
        metrics = {"val/loss": 1.0} if status == "completed" else {}
        peaks = {"host": BASE, "gpu": gpu}
        result = Result(status, reason, metrics, peak_memory=peaks)
        swept.study.tell(trial, result)
        swept.forecast.note(trial.number, trial.params, result)

    for width in widths(8, 100, 10_000):
        end(width, "completed", gpu=1000 * width)
    for width in (20_000, 30_000):
        end(width, "out_of_memory", "OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB")
    trial = swept.study.ask({"training.width": 90_000, "training.optimizer.lr": 0.5})
    assert "MB of GPU memory" in swept.forecast.objection(trial)


def test_nodes_that_differ_are_compared_with_the_largest_alone(memory) -> None:
    swept = memory()
    for width in [*widths(8, 1000, 20_000), 25_000, 30_000]:
        swept.try_point({"training.width": width, "training.optimizer.lr": 0.5}, limit=600_000_000)
    trial = swept.study.ask({"training.width": 100_000, "training.optimizer.lr": 0.5})
    small, large, huge = ({"host": size} for size in (600_000_000, 10**9, 10**12))
    assert "ran out of it" in swept.make(huge, huge).objection(trial)
    assert not swept.make(small, huge).objection(trial), "it may fit on the larger one"
    assert "no trial can have more than 1 GB" in swept.make(small, large).objection(trial)
    assert not swept.make(small, {}).objection(trial), "nothing is known of one"


def test_what_a_trial_needs_at_most_is_above_what_it_uses_and_not_by_far(memory) -> None:
    swept, rng = memory(WIDTH, RATE, SIZE), np.random.default_rng(0)
    assert swept.forecast.least() == {}
    for number, point in enumerate(points(60, 0)):
        trial = swept.study.ask(point)
        used = bytes_of(point) * (1 + rng.normal(0, 0.01))
        most = swept.forecast.most(trial).get("host")
        assert (most is None) == (number < 7), "so many tell"
        if number >= 30:
            assert used < most < 2 * used
        result = Result("completed", "", {"val/loss": 1.0}, peak_memory={"host": int(used)})
        swept.study.tell(trial, result)
        swept.forecast.note(trial.number, trial.params, result)
    assert swept.forecast.least()["host"] == pytest.approx(BASE, rel=0.1)
    assert MemoryForecast(swept.study, tuple, swept.view).most(trial) == {}, "switched off"


def test_an_enqueued_point_and_each_eleventh_are_launched_all_the_same(memory) -> None:
    swept = memory()
    for width in [*widths(8, 100, 10_000), 20_000, 30_000]:
        swept.try_point({"training.width": width, "training.optimizer.lr": 0.5})
    large = {"training.width": 90_000, "training.optimizer.lr": 0.5}
    ends = [swept.try_point(large) for _ in range(12)]
    assert ends == [*["rejected"] * 10, "out_of_memory", "rejected"]
    assert swept.said == ["10 points in a row were rejected; 0020 is launched to check that."]
    swept.study.enqueue(large, "a request")
    assert not swept.forecast.objection(swept.study.ask())


def test_a_resumed_sweep_decides_as_an_undisturbed_one(memory) -> None:
    swept, rng = memory(WIDTH, RATE, SIZE), np.random.default_rng(0)
    asked = points(40, 0)
    statuses = []
    for point in asked:
        swept.forecast = swept.make()  # of a driver that has just started
        statuses.append(swept.try_point(point, noise=rng.normal(0, 0.01)))
    undisturbed, rng = memory(WIDTH, RATE, SIZE), np.random.default_rng(0)
    assert statuses == [undisturbed.try_point(p, noise=rng.normal(0, 0.01)) for p in asked]
    assert "rejected" in statuses


def test_what_anybody_may_have_written_is_no_figure(memory) -> None:
    swept = memory()
    for peaks in ("much", ["host"], {"host": "much"}, {"host": -1, "gpu": math.nan}, {"disk": 1}):
        trial = swept.study.ask({"training.width": 500, "training.optimizer.lr": 0.5})
        params: dict[str, Any] = {"training.width": "wide", "training.optimizer.lr": None}
        result = Result("completed", "", {"val/loss": 1.0}, peak_memory=peaks)  # type: ignore[arg-type]
        swept.forecast.note(trial.number, params, result)
        assert not swept.make(host=1).objection(trial)


def test_switched_off_nothing_is_rejected(memory) -> None:
    swept = memory()
    swept.forecast = MemoryForecast(swept.study, tuple, swept.view)
    for width in [*widths(8, 100, 10_000), 20_000, 30_000, 90_000]:
        assert swept.try_point({"training.width": width, "training.optimizer.lr": 0.5}) in (
            "completed",
            "out_of_memory",
        )


def fitted(dimensions: list[Dimension], known: list[dict[str, Any]]) -> Growth | None:
    rows = [encoded(dimensions, point) for point in known]
    return fit(dimensions, rows, [bytes_of(point) for point in known])


def test_a_choice_that_no_trial_has_fitted_with_is_not_judged(make_space) -> None:
    dimensions = make_space(WIDTH, SCHEDULER).dimensions
    known = [{"training.width": w, "training/scheduler": "cosine"} for w in widths(9, 100, 9000)]
    growth = fitted(dimensions, known)
    assert growth
    large = {"training.width": 90_000, "training/scheduler": "cosine"}
    other = {**large, "training/scheduler": "step"}
    assert growth.least(large) > 0.5 * bytes_of(large)
    assert growth.expected(other) is None
    assert growth.least(other) == 0
    assert growth.needs_more(large, known[0])
    assert not growth.needs_more(other, known[0])
    assert growth.needs_more(other, {**other, "training.width": 9000}), "of the same choice"


def test_too_few_trials_or_equal_needs_say_nothing(make_space) -> None:
    dimensions = make_space(WIDTH, RATE).dimensions
    assert fitted(dimensions, []) is None
    few = [{"training.width": w, "training.optimizer.lr": w / 1e5} for w in widths(4)]
    assert fitted(dimensions, few) is None
    same = [{"training.width": 100, "training.optimizer.lr": step / 10} for step in range(9)]
    growth = fitted(dimensions, same)
    assert growth
    assert growth.is_flat, "so that no point needs more than another"
    assert growth.most(same[0]) == pytest.approx(bytes_of(same[0])), "which is all that it needs"
