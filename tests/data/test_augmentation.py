"""Augmentation: what is drawn, and where each pixel comes from."""

from __future__ import annotations

import numpy as np
import pytest

from dlsweep.data import Augmentation, Data, Split
from dlsweep.errors import ConfigError, DataError

IMAGES = np.arange(3 * 1 * 4 * 6).reshape(3, 1, 4, 6)


def moved(augmentation: Augmentation, images: np.ndarray, seed: int = 0, epoch: int = 1):
    y, x = augmentation.draw(seed, epoch, images.shape).origins(np.arange(len(images)))
    return np.take_along_axis(np.take_along_axis(images, y, -2), x, -1)


def test_a_flip_of_all_mirrors_each_image() -> None:
    assert (moved(Augmentation(horizontal_flip=1.0), IMAGES) == IMAGES[..., ::-1]).all()
    assert (moved(Augmentation(vertical_flip=1.0), IMAGES) == IMAGES[..., ::-1, :]).all()


def test_half_of_the_images_are_flipped() -> None:
    images = np.tile(np.arange(6), (4000, 4, 1))
    flipped = moved(Augmentation(horizontal_flip=0.5), images)[:, 0, 0] == 5
    assert 0.45 < flipped.mean() < 0.55


def test_a_shift_moves_by_whole_pixels_and_mirrors_the_border() -> None:
    images = np.tile(np.arange(6), (500, 1, 1, 1)).astype(np.uint8)
    rows = {tuple(row) for row in moved(Augmentation(shift=0.4), images)[:, 0, 0]}
    assert rows == {
        (2, 1, 0, 1, 2, 3),
        (1, 0, 1, 2, 3, 4),
        (0, 1, 2, 3, 4, 5),
        (1, 2, 3, 4, 5, 4),
        (2, 3, 4, 5, 4, 3),
    }


def test_what_is_drawn_depends_on_seed_epoch_and_example_alone() -> None:
    augmentation, images = Augmentation(0.5, 0.5, 0.25), np.random.rand(50, 3, 8, 8)
    np.random.seed(1)
    before = np.random.get_state()[1].copy()
    first = moved(augmentation, images, seed=3, epoch=2)
    assert (np.random.get_state()[1] == before).all()
    assert (first == moved(augmentation, images, seed=3, epoch=2)).all()
    assert (first != moved(augmentation, images, seed=3, epoch=3)).any()
    assert (first != moved(augmentation, images, seed=4, epoch=2)).any()
    rows = np.array([7, 3])
    y, x = augmentation.draw(3, 2, images.shape).origins(rows)
    some = np.take_along_axis(np.take_along_axis(images[rows], y, -2), x, -1)
    assert (some == first[rows]).all()


@pytest.mark.parametrize(
    ("name", "value"), [("horizontal_flip", 1.5), ("vertical_flip", -0.1), ("shift", 0.6)]
)
def test_a_share_out_of_its_range_is_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"data\.augmentation\.{name}: Received {value}"):
        Augmentation(**{name: value})


@pytest.mark.parametrize("shape", [(784,), (28, 28, 1), (28, 28, 3)])
def test_inputs_that_are_no_images_are_refused(shape: tuple[int, ...]) -> None:
    split = Split(np.zeros((2, *shape)), np.zeros(2))
    Data(split, split)
    with pytest.raises(DataError, match=r"data\.augmentation: Received inputs of shape"):
        Data(split, split, augmentation=Augmentation(shift=0.1))
