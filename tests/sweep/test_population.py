"""Who pauses, who goes on, and with whose weights: decided on values, checkpoints and the study."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import optuna
import pytest

from dlsweep.folders.lineage import lineage_of
from dlsweep.folders.rundir import RunDir
from dlsweep.folders.studydir import StudyDir
from dlsweep.run.run import Run
from dlsweep.sweep.pausing import Trial, store_point
from dlsweep.sweep.pbt import PopulationBasedTraining
from dlsweep.sweep.population import Population
from dlsweep.sweep.space import SearchSpace

RULES = PopulationBasedTraining(2, 6, quantile_fraction=0.5, resample_probability=0, maximize=True)


class People:
    """A study with a population, whose trials report and save as the test says."""

    def __init__(self, folder: StudyDir, space: SearchSpace, make_run: Callable[..., RunDir]):
        self.folder, self.space, self.make_run = folder, space, make_run
        self.study = optuna.create_study(direction="maximize")
        self.trials: list[Trial] = []
        self.meet_again()

    def meet_again(self) -> None:
        """What another driver does after a kill."""
        self.population = Population(self.study, RULES, self.space, self.folder, seed=1)
        for trial in self.trials:
            trial.lineage = self.population.lineage(trial.number)
        self.open = self.population.take_paused(self.trials)

    def begin(self, count: int) -> list[Trial]:
        for number in range(count):
            params = {"seed": (number + 1) / 10}
            one = Trial(number, params, self.space.overrides(params), self.study.ask())
            store_point(one)
            self.make_run(name=f"{number:04d}")
            self.trials.append(one)
        return self.trials

    def report(self, trial: Trial, step: int, value: float) -> bool:
        trial.optuna.report(value, step)
        trial.curve[step] = value
        return self.population.is_due(trial)

    def save(self, trial: Trial, step: int) -> None:
        with Run.open(self.folder.trial(trial.number).path) as run:
            metrics = {"val/accuracy": trial.curve[step]}
            run.checkpoints.save(step, lambda aside: (aside / "weights").write_text("w"), metrics)


@pytest.fixture
def people(
    tmp_path: Path, make_space: Callable[..., SearchSpace], make_run: Callable[..., RunDir]
) -> People:
    folder = StudyDir(tmp_path / "outputs" / "study")
    folder.create()
    return People(folder, make_space("seed=interval(0.0,1.0)"), make_run)


def one_waits(people: People) -> tuple[Trial, Trial]:
    """Of two trials the worse one has paused after step 2; the better one has done step 1."""
    best, worst = people.begin(2)
    assert not people.report(best, 1, 0.9)
    assert not people.report(worst, 1, 0.1)
    assert people.report(worst, 2, 0.2)
    people.population.pause(worst)
    return best, worst


def test_the_worst_waits_until_the_best_has_saved_its_step(people: People) -> None:
    best, worst = one_waits(people)
    assert people.population.next(others_begin=False) is None
    assert not people.report(best, 2, 0.95)
    assert people.population.next(others_begin=False) is None, "nothing is saved yet"
    people.save(best, 2)
    assert people.population.next(others_begin=True) is None, "those come first"
    assert people.population.next(others_begin=False) is worst
    (began, copied) = worst.lineage
    assert (began.params, copied.donor, copied.at, copied.step) == ({"seed": 0.2}, 0, 2, 2)
    assert worst.params["seed"] in (pytest.approx(0.12), pytest.approx(0.08))
    assert copied.changed == {"seed": [0.1, worst.params["seed"]]}
    assert worst.overrides == [f"seed={worst.params['seed']}"]


def test_the_worst_goes_on_alone_when_nobody_better_is_left(people: People) -> None:
    best, worst = one_waits(people)
    people.population.end(best, "completed")
    assert people.population.next(others_begin=False) is worst
    assert worst.lineage == []


def test_an_interval_begins_anew_with_the_weights(people: People) -> None:
    best, worst = one_waits(people)
    for step in (2, 3):
        people.report(best, step, 0.95)
        people.save(best, step)
    assert people.population.next(others_begin=False) is worst
    assert worst.lineage[-1].step == 3
    people.population.prepare(worst, people.folder.trial(worst.number))
    assert [one.step for one in lineage_of(people.folder.trial(1))] == [0, 3]
    assert not people.report(worst, 4, 0.1)
    assert people.report(worst, 5, 0.1), "two steps after 3"


def test_nobody_is_ahead_by_having_trained_longer(people: People) -> None:
    slow, fast = people.begin(2)
    for step, value in enumerate((0.3, 0.4, 0.8, 0.9), start=1):
        people.report(fast, step, value)
    people.report(slow, 1, 0.35)
    assert not people.report(slow, 2, 0.5), "at step 2 it is the better one"


def test_the_best_pause_if_others_wait_and_go_on_as_they_are(people: People) -> None:
    best, worst = people.begin(2)
    people.report(worst, 1, 0.1)
    people.population.others_wait = True
    assert not people.report(best, 1, 0.9)
    assert people.report(best, 2, 0.9)
    people.population.pause(best)
    assert people.population.next(others_begin=False) is best
    assert best.lineage == []
    assert not people.report(best, 6, 0.9), "its training is over"


def test_another_driver_knows_who_waits_and_what_was_decided(people: People) -> None:
    best, worst = one_waits(people)
    people.meet_again()
    assert people.open == [best]
    assert people.population.paused == [worst]
    people.report(best, 2, 0.95)
    people.save(best, 2)
    assert people.population.next(others_begin=False) is worst
    decided = worst.lineage
    people.meet_again()
    assert people.open == [best, worst], "it is launched, and nothing is decided twice"
    assert worst.lineage == decided
    assert len(decided) == 2


def test_another_driver_does_not_ask_again_who_has_gone_on_alone(people: People) -> None:
    best, worst = one_waits(people)
    people.population.end(best, "completed")
    people.study.tell(best.optuna, 1.0)
    people.trials.remove(best)
    assert people.population.next(others_begin=False) is worst
    people.meet_again()
    assert people.open == [worst]
