"""Splits and normalisation."""

from __future__ import annotations

import numpy as np
import pytest

from dlsweep.data import Data, Split
from dlsweep.data.base import as_data, normalised, split_by_class
from dlsweep.errors import ConfigError, DataError


def test_each_class_gives_the_same_share_and_no_example_is_lost():
    targets = np.array([0] * 100 + [1] * 50 + [2] * 10)
    stay, held_out = split_by_class(targets, 0.2, seed=0)
    assert np.bincount(targets[held_out]).tolist() == [20, 10, 2]
    assert sorted([*stay, *held_out]) == list(range(160))


def test_the_split_depends_on_the_seed_alone():
    targets = np.arange(200) % 4
    np.random.seed(1)
    first = split_by_class(targets, 0.25, seed=3)
    np.random.seed(2)
    again = split_by_class(targets, 0.25, seed=3)
    other = split_by_class(targets, 0.25, seed=4)
    assert np.array_equal(first[1], again[1])
    assert not np.array_equal(first[1], other[1])


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5, float("nan")])
def test_a_share_outside_of_0_to_1_is_refused(share: float):
    with pytest.raises(ConfigError, match=r"data\.validation: Received .* Expected a share"):
        split_by_class(np.arange(10) % 2, share, seed=0)


@pytest.mark.parametrize("share", [0.05, 0.95])
def test_a_share_that_empties_a_class_is_refused(share: float):
    with pytest.raises(ConfigError, match="examples of class 0"):
        split_by_class(np.arange(10) % 2, share, seed=0)


def test_pixels_are_scaled_to_0_to_1_before_they_are_normalised():
    pixels = np.array([[0, 51, 255]], dtype=np.uint8)
    values = normalised(pixels, mean=0.2, std=0.5)
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, [[-0.4, 0.0, 1.6]], atol=1e-6)
    assert pixels.tolist() == [[0, 51, 255]]


def test_data_normalises_with_its_own_mean_and_deviation():
    split = Split(np.array([2.0, 4.0]), np.array([0, 1]))
    data = Data(split, split, mean=2.0, std=4.0)
    assert data.normalise(split.inputs).tolist() == [0.0, 0.5]


def test_tokens_stay_whole_numbers():
    tokens = normalised(np.array([[3, 70_000]], dtype=np.int32), mean=1.0, std=2.0)
    assert tokens.dtype == np.int64
    assert tokens.tolist() == [[3, 70_000]]


def test_inputs_that_are_no_numbers_are_refused():
    with pytest.raises(DataError, match="Received the type <U3"):
        normalised(np.array(["cat", "dog"]))


@pytest.mark.parametrize(("inputs", "targets"), [(3, 2), (0, 0)])
def test_a_split_has_a_target_for_each_input(inputs: int, targets: int):
    with pytest.raises(DataError, match=f"Received {inputs} inputs and {targets} targets"):
        Split(np.zeros((inputs, 4)), np.zeros(targets))


def test_a_deviation_of_zero_is_refused():
    split = Split(np.zeros((2, 1)), np.zeros(2))
    with pytest.raises(DataError, match=r"std: Received 0\.0"):
        Data(split, split, std=0.0)


def test_examples_of_unequal_length_are_refused_with_what_to_do() -> None:
    ragged = [[1, 2, 3], [4]]
    for parts in [(ragged, [0, 1]), ({"words": ragged}, [0, 1]), ([[1], [2]], ragged)]:
        with pytest.raises(DataError, match=r"(?s)unequal length.*Pad them to the longest"):
            as_data({"train": parts, "validation": parts})


@pytest.mark.parametrize(
    ("targets", "scale", "message"),
    [
        (np.arange(4), {"target_mean": 1.0}, r"targets of the type int64\. Expected floats"),
        (np.zeros((4, 2)), {"target_std": [1.0, 0.0]}, r"target_std: .* Expected numbers above 0"),
        (np.zeros((4, 2)), {"target_mean": [1.0] * 4}, r"target_mean: Received the shape \[4\]"),
    ],
)
def test_statistics_that_do_not_fit_the_targets_are_refused(
    targets: np.ndarray, scale: dict, message: str
) -> None:
    split = Split(np.zeros((4, 3)), targets)
    with pytest.raises(DataError, match=message):
        Data(split, split, **scale)
