"""Images from a folder for each class."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dlsweep.data import Augmentation, image_folder
from dlsweep.errors import ConfigError, DataError

COLOURS = {"cat": (255, 0, 0), "dog": (0, 51, 0)}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Five photos a class, each in one colour, in several formats."""
    for name, colour in COLOURS.items():
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for number, suffix in enumerate(("png", "bmp", "png", "gif", "tiff")):
            image = Image.new("RGB", (8 + number, 10), colour)
            image.save(folder / f"{number}.{suffix}")
    (tmp_path / "photos" / ".DS_Store").touch()
    (tmp_path / "photos" / "cat" / ".hidden").touch()
    return tmp_path / "photos"


def test_each_folder_is_a_class_and_each_image_resized(photos: Path) -> None:
    data = image_folder(str(photos), image_size=[4, 6], augmentation=Augmentation(shift=0.1))
    assert data.train.inputs.shape == (8, 3, 4, 6)
    assert data.train.inputs.dtype == np.uint8
    for split, count in ((data.train, 4), (data.validation, 1)):
        assert np.bincount(split.targets).tolist() == [count, count]
        for image, target in zip(split.inputs, split.targets, strict=True):
            assert image[:, 0, 0].tolist() == list(list(COLOURS.values())[target])
            assert (image == image[:, :1, :1]).all()
    assert data.record["class_names"] == ["cat", "dog"]
    assert data.augmentation.shift == 0.1


def test_each_channel_is_normalised_by_the_training_images(photos: Path) -> None:
    data = image_folder(str(photos), image_size=4)
    facts = data.facts()
    assert facts["input_shape"] == [3, 4, 4]
    assert facts["classes"] == 2
    np.testing.assert_allclose(np.ravel(facts["mean"]), [0.5, 0.1, 0.0])
    np.testing.assert_allclose(np.ravel(facts["std"]), [0.5, 0.1, 1.0])
    values = data.normalise(data.train.inputs)
    np.testing.assert_allclose(values.mean(axis=(0, 2, 3)), 0, atol=1e-6)
    np.testing.assert_allclose(values.std(axis=(0, 2, 3)), [1, 1, 0], atol=1e-6)


def test_grey_images_have_one_channel(photos: Path) -> None:
    data = image_folder(str(photos), image_size=4, channels=1)
    assert data.facts()["input_shape"] == [1, 4, 4]


def test_images_are_decoded_once(photos: Path, cache: Path) -> None:
    first = image_folder(str(photos), image_size=4)
    (entry,) = cache.iterdir()
    made = entry.stat().st_mtime_ns
    again = image_folder(str(photos), image_size=4, validation=0.4)
    assert entry.stat().st_mtime_ns == made
    assert len(list(cache.iterdir())) == 1
    assert len(again.train) == 6 != len(first.train)
    Image.new("RGB", (9, 9), (1, 2, 3)).save(photos / "dog" / "new.png")
    assert len(image_folder(str(photos), image_size=4).train) == 9
    image_folder(str(photos), image_size=5)
    assert len(list(cache.iterdir())) == 3


def test_photos_taken_on_their_side_are_upright(photos: Path) -> None:
    picture = Image.fromarray(np.array([[[255] * 3, [0] * 3]] * 2, np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    for number in range(5):
        picture.save(photos / "cat" / f"{number}.png", exif=exif)
    for path in photos.glob("cat/*"):
        if path.suffix != ".png":
            path.unlink()
    data = image_folder(str(photos), image_size=2, validation=0.4)
    image = data.train.inputs[data.train.targets == 0][0, 0]
    assert image.tolist() == [[255, 255], [0, 0]]


def corrupt(photos: Path) -> str:
    path = photos / "dog" / "0.png"
    path.write_bytes(path.read_bytes()[:40])
    return rf"{path} cannot be read as an image: .*\nRepair it, or remove it\."


def no_image(photos: Path) -> str:
    (photos / "cat" / "notes.txt").write_text("a cat")
    return r"notes\.txt cannot be read as an image: cannot identify"


def empty(photos: Path) -> str:
    (photos / "bird").mkdir()
    return rf"the class folder {photos / 'bird'} is empty"


def no_classes(photos: Path) -> str:
    for name in COLOURS:
        shutil.rmtree(photos / name)
    return rf"data\.folder: {photos} has no folders in it"


def missing(photos: Path) -> str:
    photos.rename(photos.with_name("elsewhere"))
    return rf"data\.folder: {photos} is not a folder"


@pytest.mark.parametrize("harm", [corrupt, no_image, empty, no_classes, missing])
def test_a_folder_that_cannot_be_used_is_named(photos: Path, harm: Callable[[Path], str]) -> None:
    with pytest.raises(DataError, match=harm(photos)):
        image_folder(str(photos), image_size=4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_size": 0}, r"data\.image_size, data\.channels: Received 0 and 3"),
        ({"image_size": 4, "channels": 2}, r"Received 4 and 2"),
        ({"image_size": 4, "classes": 3}, r"data\.classes: Received 3\. Expected 2"),
        ({"image_size": 4, "input_shape": [1, 4, 4]}, r"data\.input_shape: Received \[1, 4, 4\]"),
        ({"image_size": 4, "validation": 0.01}, r"data\.validation: Received 0\.01"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(photos: Path, arguments: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        image_folder(str(photos), **arguments)


def one_image(folder: Path, save: Callable[[Path], None], channels: int = 1) -> np.ndarray:
    """The pixels of an image that is alone in its class, beside another class."""
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        for number in range(2):
            save(folder / name / f"{number}")
    data = image_folder(str(folder), image_size=2, channels=channels, validation=0.5)
    return data.train.inputs[0]


@pytest.mark.parametrize(
    ("dtype", "suffix"), [(np.uint16, "png"), (np.uint16, "tiff"), (np.dtype(">u2"), "tiff")]
)
def test_sixteen_bits_of_gray_are_scaled(tmp_path: Path, dtype: type, suffix: str) -> None:
    gray = np.array([[0, 65535], [32896, 257]]).astype(dtype)

    def save(path: Path) -> None:
        mode = "I;16B" if np.dtype(dtype).byteorder == ">" else "I;16"
        image = Image.frombytes(mode, (2, 2), gray.tobytes())
        image.save(path.with_suffix(f".{suffix}"))

    assert one_image(tmp_path, save).tolist() == [[[0, 255], [128, 1]]]


@pytest.mark.parametrize(("mode", "kind"), [("I", "integers"), ("F", "floats")])
def test_pixels_of_an_unknown_range_are_refused(tmp_path: Path, mode: str, kind: str) -> None:
    with pytest.raises(DataError, match=rf"\.tiff cannot be read .*32-bit {kind}.*8 or 16 bits"):
        one_image(tmp_path, lambda path: Image.new(mode, (2, 2)).save(path.with_suffix(".tiff")))


@pytest.mark.parametrize(
    ("mode", "color", "suffix", "pixel"),
    [
        ("1", 1, "png", [255, 255, 255]),
        ("L", 100, "png", [100, 100, 100]),
        ("LA", (100, 7), "png", [100, 100, 100]),
        ("P", 0, "png", [0, 0, 0]),
        ("RGBA", (10, 20, 30, 7), "png", [10, 20, 30]),
        ("CMYK", (255, 0, 0, 0), "tiff", [0, 255, 255]),
        ("YCbCr", (76, 85, 255), "jpg", [254, 0, 0]),
    ],
)
def test_every_mode_becomes_color(
    tmp_path: Path, mode: str, color: Any, suffix: str, pixel: list[int]
) -> None:
    def save(path: Path) -> None:
        Image.new(mode, (2, 2), color).save(path.with_suffix(f".{suffix}"))

    found = one_image(tmp_path, save, channels=3)[:, 0, 0]
    assert np.abs(found.astype(int) - pixel).max() <= 2
