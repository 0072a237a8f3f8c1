"""Which trial is promoted, and how high the rungs of PASHA grow."""

from __future__ import annotations

import numpy as np
import pytest

from dlsweep.errors import ConfigError
from dlsweep.sweep.rungs import PashaPruner, PromotePruner


def reach(rungs: PromotePruner, number: int, *values: float) -> bool:
    """Reports a trial's values at steps 1, 2, ...; pauses it if it is due."""
    rungs.note(number, dict(enumerate(values, 1)))
    if is_due := rungs.is_reached(number):
        rungs.pause(number)
    return is_due


@pytest.mark.parametrize(
    ("smallest", "largest", "factor", "levels"),
    [
        (1, 9, 3, [1, 3, 9]),
        (1, 10, 3, [1, 3, 9, 10]),
        (2, 16, 2, [2, 4, 8, 16]),
        (1, 2, 3, [1, 2]),
    ],
)
def test_rungs_are_a_factor_apart_and_end_with_the_training(smallest, largest, factor, levels):
    assert PromotePruner(smallest, largest, factor).levels == levels


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"min_resource": 0}, r"min_resource: Received 0\. Expected a whole number from 1"),
        ({"min_resource": 1.5}, "min_resource: Received 1.5"),
        ({"reduction_factor": 1}, r"reduction_factor: Received 1\. Expected a whole number from 2"),
        ({"min_resource": 9}, r"which have 1 rungs: \[9\]"),
        ({"brackets": 3}, r"which have 3 rungs: \[1, 3, 9\]"),
    ],
)
def test_rungs_that_cannot_be_are_refused(options, says) -> None:
    with pytest.raises(ConfigError, match=says):
        PromotePruner(**{"min_resource": 1, "max_resource": 9, **options})


def test_the_best_of_each_three_is_promoted_once() -> None:
    rungs = PromotePruner(1, 9)
    assert reach(rungs, 0, 5.0)
    assert reach(rungs, 1, 4.0)
    assert rungs.promote() is None, "one of two is no third"
    assert reach(rungs, 2, 6.0)
    assert rungs.promote() == 1
    assert rungs.promote() is None
    for number, value in ((3, 3.0), (4, 7.0), (5, 8.0)):
        assert reach(rungs, number, value)
    assert rungs.promote() == 3
    assert rungs.paused == {0, 2, 4, 5}


def test_a_higher_value_is_better_if_asked() -> None:
    rungs = PromotePruner(1, 9, maximize=True)
    for number, value in enumerate((5.0, 4.0, 6.0)):
        reach(rungs, number, value)
    assert rungs.promote() == 2


def test_the_highest_rung_comes_first_and_the_last_one_is_the_end() -> None:
    rungs = PromotePruner(1, 4, reduction_factor=2)
    for number in range(4):
        reach(rungs, number, float(number))
    assert [rungs.promote(), rungs.promote()] == [0, 1]
    assert not reach(rungs, 0, 0.0)
    assert reach(rungs, 0, 0.0, 0.5)
    assert reach(rungs, 1, 1.0, 0.4)
    for number in (4, 5):
        reach(rungs, number, -float(number))
    assert rungs.promote() == 1, "the better one of rung 2"
    assert not reach(rungs, 1, 1.0, 0.4, 0.3, 0.2), "it trains to its end, and is not paused there"
    assert rungs.promote() == 5


def test_a_value_counts_where_a_step_first_reaches_the_rung() -> None:
    rungs = PromotePruner(2, 4, reduction_factor=2)
    rungs.note(0, {1: 9.0, 3: 5.0, 4: 1.0})
    assert rungs.ranking(0) == [0]
    rungs.note(1, {2: 4.0})
    rungs.note(2, {1: 0.0})
    assert rungs.ranking(0) == [1, 0]


def test_an_ended_trial_is_not_promoted_and_still_counts() -> None:
    rungs = PromotePruner(1, 9)
    for number, value in enumerate((1.0, 2.0, 3.0)):
        reach(rungs, number, value)
    rungs.end(0)
    assert rungs.promote() is None
    for number, value in ((3, 4.0), (4, 5.0), (5, 6.0)):
        reach(rungs, number, value)
    assert rungs.promote() == 1


def test_the_best_one_of_the_highest_rung_goes_to_the_end() -> None:
    rungs = PromotePruner(1, 27)
    for number, value in enumerate((5.0, 4.0, 6.0)):
        reach(rungs, number, value)
    assert rungs.promote() == 1
    reach(rungs, 1, 4.0, 4.0, 4.0)
    assert rungs.promote_to_the_end() == 1
    assert not reach(rungs, 1, *[4.0] * 9), "it pauses at no other rung"
    assert rungs.promote_to_the_end() == 0
    assert rungs.promote_to_the_end() == 2
    assert rungs.promote_to_the_end() is None


def test_brackets_have_the_sizes_of_hyperband_and_start_at_their_rung() -> None:
    rungs = PromotePruner(1, 27, brackets=3)
    brackets = [rungs.bracket(number) for number in range(1300)]
    counts = np.bincount(brackets)
    assert counts / 100 == pytest.approx([9, 3, 1], rel=0.2)
    second = brackets.index(1)
    assert not reach(rungs, second, 1.0)
    assert reach(rungs, second, 1.0, 1.0, 1.0)
    assert rungs.ranking(0) == []


def test_each_bracket_promotes_its_own() -> None:
    rungs = PromotePruner(1, 27, brackets=2)
    second = [number for number in range(40) if rungs.bracket(number) == 1][:3]
    first = [number for number in range(40) if rungs.bracket(number) == 0][:3]
    for number in first:
        reach(rungs, number, float(number))
    assert rungs.promote() == first[0]
    reach(rungs, first[0], *[-1.0] * 3)
    for number in second:
        reach(rungs, number, *[float(number)] * 3)
    assert rungs.promote() == second[0], "better ones of another bracket do not take its place"


def pasha(*curves: list[float]) -> PashaPruner:
    """Trials that have all reached the second rung, at step 2 of 16."""
    rungs = PashaPruner(1, 16, reduction_factor=2)
    for number, curve in enumerate(curves):
        rungs.note(number, {1: curve[0]})
    for number, curve in enumerate(curves):
        rungs.note(number, dict(enumerate(curve, 1)), promoted_to=1)
    return rungs


def test_pasha_stays_low_while_the_ranking_stands() -> None:
    assert pasha([1.0, 0.5], [2.0, 1.5], [3.0, 2.5]).highest == 1


def test_pasha_opens_a_rung_when_the_ranking_changes() -> None:
    assert pasha([1.0, 1.9], [2.0, 1.5], [3.0, 2.5]).highest == 2


def test_pasha_pauses_at_its_highest_rung_and_promotes_nothing_beyond() -> None:
    rungs = pasha([1.0, 0.5], [2.0, 1.5])
    assert rungs.is_reached(0)
    rungs.pause(0)
    rungs.pause(1)
    assert rungs.promote() is None
    assert rungs.promote_to_the_end() == 0


def test_pasha_takes_differences_within_the_noise_for_equal() -> None:
    """Two curves that cross back and forth tell how far values lie apart by chance."""
    rungs = PashaPruner(4, 64, reduction_factor=2)
    noisy = [{4: 1.00, 5: 1.2, 6: 1.0, 7: 1.2, 8: 1.05}, {4: 1.01, 5: 1.1, 6: 1.1, 7: 1.1, 8: 1.00}]
    for number, curve in enumerate(noisy):
        rungs.note(number, {4: curve[4]})
    for number, curve in enumerate(noisy):
        rungs.note(number, curve, promoted_to=1)
    assert rungs.noise() == pytest.approx(0.05)
    assert rungs.highest == 1, "the order has changed, by less than the noise"


def test_the_noise_is_the_90th_percentile_of_pairs_that_cross_twice() -> None:
    random = np.random.default_rng(0)
    curves = random.normal(size=(8, 6))
    rungs = PashaPruner(3, 24, reduction_factor=2)
    for number, curve in enumerate(curves):
        rungs.note(number, dict(enumerate(curve.tolist(), 1)), promoted_to=1)
        rungs.highest = 1
    expected = [
        abs(one[-1] - other[-1])
        for n, one in enumerate(curves)
        for other in curves[n + 1 :]
        if (np.diff(np.sign(one - other)) != 0).sum() >= 2
    ]
    assert rungs.noise() == pytest.approx(np.percentile(expected, 90))


def test_pasha_grows_to_the_ceiling_and_no_further() -> None:
    rungs = PashaPruner(1, 8, reduction_factor=2)
    values = ((0, 1, 1, 1), (1, 0, 0, 0), (2, 2, 3, 2), (3, 3, 2, 3))  # each change is the first
    for count in (1, 2, 3, 4):
        for number, curve in enumerate(values):
            reported = dict(zip(rungs.levels, map(float, curve[:count]), strict=False))
            rungs.note(number, reported, promoted_to=count - 1)
    assert rungs.highest == 3 == len(rungs.levels) - 1
