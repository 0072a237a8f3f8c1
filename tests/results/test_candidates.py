"""Candidates are compared seed by seed, and no difference by chance is called real."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from dlsweep.results.candidates import Candidate, difference, ranked, verdict


def candidate(name: str, *values: float) -> Candidate:
    seeds = range(1, len(values) + 1)
    return Candidate(name, dict(zip(seeds, values, strict=True)), {seed: seed for seed in seeds})


def test_the_interval_is_that_of_students_t() -> None:
    values = [0.91, 0.93, 0.90, 0.95, 0.92]
    low, high = candidate("a", *values).interval()
    half = 2.776 * np.std(values, ddof=1) / np.sqrt(5)  # the quantile of four degrees of freedom
    assert (low, high) == pytest.approx((np.mean(values) - half, np.mean(values) + half), abs=1e-5)
    assert candidate("a", 0.9).interval() is None
    assert candidate("a", 0.9, 0.9).interval() == (0.9, 0.9)


def test_pairs_of_seeds_are_compared() -> None:
    """Both vary more between seeds than from each other: only pairs show the difference."""
    first = candidate("a", 0.80, 0.90, 0.70, 0.95, 0.60)
    second = candidate("b", 0.79, 0.888, 0.691, 0.939, 0.588)
    found = difference(first, second, "maximize")
    expected = stats.ttest_rel(list(first.values.values()), list(second.values.values()))
    assert found.p_value == pytest.approx(expected.pvalue)
    assert found.is_certain
    assert verdict("a", "b", found).startswith("a is better than b by 0.0108 (95% interval 0.0")


def test_a_difference_that_may_be_chance_is_called_so() -> None:
    first, second = candidate("a", 0.9, 0.8, 0.95), candidate("b", 0.85, 0.9, 0.8)
    found = difference(first, second, "maximize")
    assert not found.is_certain
    assert verdict("a", "b", found).endswith("that may be chance. More seeds would tell.")


def test_a_smaller_value_is_better_if_it_is_minimized() -> None:
    low, high = candidate("low", 0.1, 0.2, 0.3), candidate("high", 0.4, 0.5, 0.61)
    assert [one.name for one in ranked([high, low], "minimize")] == ["low", "high"]
    assert [one.name for one in ranked([high, low], "maximize")] == ["high", "low"]
    found = difference(low, high, "minimize")
    assert found.mean == pytest.approx(0.30333, abs=1e-4)
    assert found.is_certain


def test_one_seed_cannot_tell_and_equal_values_are_no_difference() -> None:
    one = difference(candidate("a", 0.9), candidate("b", 0.8), "maximize")
    assert "one seed cannot tell" in verdict("a", "b", one)
    same = difference(candidate("a", 0.9, 0.9), candidate("b", 0.9, 0.9), "maximize")
    assert (same.p_value, same.is_certain) == (1.0, False)


def test_only_seeds_that_both_have_are_paired() -> None:
    first = Candidate("a", {1: 0.9, 2: 0.8, 3: 0.7}, {})
    second = Candidate("b", {2: 0.7, 3: 0.5, 4: 0.1}, {})
    found = difference(first, second, "maximize")
    assert found.seeds == 2
    assert found.mean == pytest.approx(0.15)
