"""MNIST and Fashion-MNIST: embedded, from a folder, downloaded."""

from __future__ import annotations

import hashlib
import inspect
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from dlsweep.data import fashion_mnist, mnist
from dlsweep.data.digits import MNIST, Publication, _published
from dlsweep.errors import ConfigError, DataError
from dlsweep.security.instantiate import instantiate

CONF = Path(__file__).parents[2] / "conf" / "data"
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
Write = Callable[[Path, np.ndarray], None]


def images(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, 28, 28), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path, write_idx: Write) -> Path:
    """Four IDX files like the published ones, but smaller; two of them unpacked."""
    folder = tmp_path / "idx"
    write_idx(folder / "train-images-idx3-ubyte.gz", images(200))
    write_idx(folder / "train-labels-idx1-ubyte", np.arange(200) % 10)
    write_idx(folder / "t10k-images-idx3-ubyte", images(50))
    write_idx(folder / "t10k-labels-idx1-ubyte.gz", np.arange(50) % 10)
    return folder


def test_the_embedded_digits_are_split_by_class_and_recorded():
    data = mnist()
    assert data.train.inputs.shape == (8000, 1, 28, 28)
    assert data.validation.inputs.shape == (2000, 1, 28, 28)
    assert data.test is None
    shares = np.bincount(data.validation.targets) / (
        np.bincount(data.train.targets) + np.bincount(data.validation.targets)
    )
    np.testing.assert_allclose(shares, 0.2, atol=0.001)
    assert data.record["source"] == "embedded"
    assert data.record["examples"] == {"train": 8000, "validation": 2000}
    assert len(data.record["sha256"]["mnist10k.npz"]) == 64


def test_the_embedded_digits_are_what_their_statistics_say():
    data = mnist()
    pixels = np.concatenate([data.train.inputs, data.validation.inputs]) / 255
    assert pixels.mean() == pytest.approx(data.mean, abs=0.001)
    assert pixels.std() == pytest.approx(data.std, abs=0.001)


def test_a_second_process_finds_them_decoded(cache: Path):
    code = "from dlsweep.data import mnist; mnist()"
    subprocess.run([sys.executable, "-c", code], check=True)
    (entry,) = cache.glob("mnist10k-*")
    before = {path: path.stat().st_mtime_ns for path in entry.iterdir()}
    mnist()
    assert {path: path.stat().st_mtime_ns for path in entry.iterdir()} == before


@pytest.mark.parametrize("shape", [[1, 28, 28], [28, 28, 1], [28, 28], [784]])
def test_an_input_takes_the_shape_that_the_config_says(shape: list[int]):
    assert mnist(input_shape=shape).train.inputs.shape == (8000, *shape)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_shape": [3, 28, 28]}, r"data\.input_shape: Received \[3, 28, 28\]"),
        ({"input_shape": [56, 14]}, r"data\.input_shape: Received \[56, 14\]"),
        ({"classes": 11}, r"data\.classes: Received 11\. Expected 10"),
        ({"source": "whole"}, r"data\.source: Received 'whole'"),
        ({"validation": 0.0}, r"data\.validation: Received 0\.0"),
    ],
)
def test_an_argument_that_does_not_fit_the_data_is_refused(arguments: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        mnist(**arguments)


def test_a_folder_of_the_users_is_read_gzipped_or_not(folder: Path):
    data = mnist("full", folder=str(folder), validation=0.1)
    assert data.record["examples"] == {"train": 180, "validation": 20, "test": 50}
    assert data.record["source"] == str(folder)
    packed = folder / "train-images-idx3-ubyte.gz"
    digest = hashlib.sha256(packed.read_bytes()).hexdigest()
    assert data.record["sha256"][packed.name] == digest
    assert np.array_equal(data.test.inputs[:, 0], images(50))
    assert data.test.targets.tolist() == (np.arange(50) % 10).tolist()
    together = np.concatenate([data.train.inputs, data.validation.inputs])[:, 0]
    assert sorted(map(bytes, together)) == sorted(map(bytes, images(200)))


def test_an_image_keeps_its_label_through_the_split(folder: Path):
    data = mnist("full", folder=str(folder), validation=0.3)
    label_of = {bytes(image): n % 10 for n, image in enumerate(images(200))}
    for split in (data.train, data.validation):
        for image, label in zip(split.inputs, split.targets, strict=True):
            assert label_of[bytes(image)] == label


def test_files_that_changed_are_decoded_again(folder: Path, write_idx: Write):
    fashion_mnist(folder=str(folder))
    write_idx(folder / "t10k-images-idx3-ubyte", images(50)[::-1])
    again = fashion_mnist(folder=str(folder))
    assert np.array_equal(again.test.inputs[:, 0], images(50)[::-1])


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("t10k-images-idx3-ubyte", np.zeros((50, 32, 32)), r"images of \[32, 32\]"),
        ("t10k-labels-idx1-ubyte.gz", np.arange(49) % 10, r"labels: 49\. Expected 50"),
        ("train-labels-idx1-ubyte", np.arange(200) % 9, "the classes"),
    ],
)
def test_files_that_do_not_go_together_are_refused(
    folder: Path, write_idx: Write, name: str, array: np.ndarray, message: str
):
    write_idx(folder / name, array)
    with pytest.raises(DataError, match=message):
        mnist("full", folder=str(folder))


def test_only_missing_files_are_downloaded(folder: Path, server):
    name = "train-images-idx3-ubyte.gz"
    content = (folder / name).read_bytes()
    (folder / name).unlink()
    server.files[name] = content
    md5 = (hashlib.md5(content).hexdigest(), *MNIST.md5[1:])
    arrays, _ = _published(Publication("digits", server.url, md5, 0.1, 0.3), str(folder))
    assert np.array_equal(arrays["train_images"], images(200))
    assert [each for each, _ in server.requests] == [name]


def test_without_a_folder_the_files_go_to_the_cache(folder: Path, server, cache: Path):
    names = [f"{n}-ubyte.gz" for n in ("train-images-idx3", "train-labels-idx1")]
    names += [f"{n}-ubyte.gz" for n in ("t10k-images-idx3", "t10k-labels-idx1")]
    for name in names:
        path = folder / name if (folder / name).exists() else folder / name.removesuffix(".gz")
        server.files[name] = path.read_bytes()
    md5 = tuple(hashlib.md5(server.files[name]).hexdigest() for name in names)
    _published(Publication("digits", server.url, md5, 0.1, 0.3), None)
    assert {path.name for path in (cache / "digits").glob("*.gz")} == set(names)


@pytest.mark.parametrize(("name", "target"), [("mnist", mnist), ("fashion_mnist", fashion_mnist)])
def test_every_key_of_the_config_is_an_argument_with_the_same_default(name: str, target: Callable):
    config = OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml"))
    assert config.pop("_target_") == f"dlsweep.data.{name}"
    parameters = inspect.signature(target).parameters
    defaults = {
        key: list(p.default) if isinstance(p.default, tuple) else p.default
        for key, p in parameters.items()
    }
    for augmentation in (config.pop("augmentation"), defaults.pop("augmentation")):
        assert not instantiate(augmentation), "none unless asked for"
    assert config == defaults


def test_the_config_makes_the_data():
    data = instantiate(OmegaConf.load(CONF / "mnist.yaml"))
    assert data.train.inputs.shape == (8000, 1, 28, 28)


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="needs Debian's package dataset-fashion-mnist")
def test_the_published_fashion_mnist_is_read():
    data = fashion_mnist(folder=str(DEBIAN))
    assert data.record["examples"] == {"train": 54_000, "validation": 6_000, "test": 10_000}
    assert np.bincount(data.validation.targets).tolist() == [600] * 10
    values = data.normalise(data.train.inputs)
    assert values.mean() == pytest.approx(0, abs=0.01)
    assert values.std() == pytest.approx(1, abs=0.01)
