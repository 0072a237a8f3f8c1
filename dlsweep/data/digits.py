"""MNIST and Fashion-MNIST: gray images of 28 by 28 pixels in ten classes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dlsweep.data.augmentation import Augmentation
from dlsweep.data.base import Array, Data, Split, split_by_class
from dlsweep.data.cache import cache_folder, decoded_once, sha256
from dlsweep.data.download import download
from dlsweep.data.idx import find_idx, read_idx
from dlsweep.errors import ConfigError, DataError

_SIDE = 28
_CLASSES = 10
_LABELS = list(range(_CLASSES))
_EMBEDDED = Path(__file__).with_name("mnist10k.npz")
#: The file of each array, and its number of dimensions.
_FILES = {
    "train_images": ("train-images-idx3-ubyte", 3),
    "train_labels": ("train-labels-idx1-ubyte", 1),
    "test_images": ("t10k-images-idx3-ubyte", 3),
    "test_labels": ("t10k-labels-idx1-ubyte", 1),
}


@dataclass(frozen=True)
class Publication:
    """A published data set in four IDX files.

    Attributes:
        name: The name of the data set.
        url: The URL before each file name.
        md5: The MD5 digests of the gzipped files, in the order of their names above.
        mean: The mean of the training pixels, scaled to 0..1.
        std: Their standard deviation.
    """

    name: str
    url: str
    md5: tuple[str, str, str, str]
    mean: float
    std: float


MNIST = Publication(
    name="mnist",
    url="https://ossci-datasets.s3.amazonaws.com/mnist/",
    md5=(
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "d53e105ee54ea40749a09fcbcd1e9432",
        "9fb629c4189551a2d022fa330f9573f3",
        "ec29112dd5afa0611ce80d1b7f02629c",
    ),
    mean=0.1307,
    std=0.3081,
)
FASHION_MNIST = Publication(
    name="fashion_mnist",
    url="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    md5=(
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "25c81989df183df01b3e8a0aad5dffbe",
        "bef4ecab320f06d8554ea6380940ec79",
        "bb300cfdad3c16e7a12a480ee83cd310",
    ),
    mean=0.2860,
    std=0.3530,
)


def mnist(
    source: Literal["embedded", "full"] = "embedded",
    folder: str | None = None,
    validation: float = 0.2,
    seed: int = 0,
    input_shape: Sequence[int] = (1, _SIDE, _SIDE),
    classes: int = _CLASSES,
    augmentation: Augmentation | None = None,
) -> Data:
    """The MNIST data set of handwritten digits (LeCun, Cortes and Burges, 1998).

    Args:
        source: ``embedded`` for the 10,000 digits in this package, without a test set; ``full`` for
            all 70,000 with their test set.
        folder: For ``full``: the folder of the four IDX files; missing files are downloaded.
        validation: The share of training images to hold out, equal for each class.
        seed: The seed of that choice.
        input_shape: The shape of one input.
        classes: The number of classes; the model's config refers to it.
        augmentation: The augmentation of the training images.

    Raises:
        ConfigError: If an argument does not fit the data.
        DataError: If a file cannot be downloaded, or is damaged.
    """
    if source not in ("embedded", "full"):
        raise ConfigError(f"data.source: Received {source!r}. Expected 'embedded' or 'full'.")
    _check_facts(input_shape, classes)
    arrays, record = _embedded() if source == "embedded" else _published(MNIST, folder)
    return _assemble(MNIST, arrays, record, validation, seed, input_shape, augmentation)


def fashion_mnist(
    folder: str | None = None,
    validation: float = 0.1,
    seed: int = 0,
    input_shape: Sequence[int] = (1, _SIDE, _SIDE),
    classes: int = _CLASSES,
    augmentation: Augmentation | None = None,
) -> Data:
    """The Fashion-MNIST data set of clothing (Xiao, Rasul and Vollgraf, 2017).

    Args:
        folder: The folder of the four IDX files; missing files are downloaded.
        validation: The share of training images to hold out, equal for each class.
        seed: The seed of that choice.
        input_shape: The shape of one input.
        classes: The number of classes; the model's config refers to it.
        augmentation: The augmentation of the training images.

    Raises:
        ConfigError: If an argument does not fit the data.
        DataError: If a file cannot be downloaded, or is damaged.
    """
    _check_facts(input_shape, classes)
    arrays, record = _published(FASHION_MNIST, folder)
    return _assemble(FASHION_MNIST, arrays, record, validation, seed, input_shape, augmentation)


def _check_facts(input_shape: Sequence[int], classes: int) -> None:
    """Checks input shape and classes: a shape may be flat or add dimensions of one."""
    if [size for size in input_shape if size != 1] not in ([_SIDE, _SIDE], [_SIDE * _SIDE]):
        raise ConfigError(
            f"data.input_shape: Received {list(input_shape)}. "
            f"Expected the shape of one image: [1,{_SIDE},{_SIDE}], [{_SIDE},{_SIDE},1] "
            f"or [{_SIDE * _SIDE}]."
        )
    if classes != _CLASSES:
        raise ConfigError(f"data.classes: Received {classes}. Expected {_CLASSES}, as in the data.")


def _embedded() -> tuple[dict[str, Array], dict[str, Any]]:
    digest = sha256(_EMBEDDED)
    arrays = decoded_once("mnist10k", digest, _decode_embedded)
    record = {"name": "mnist", "source": "embedded", "sha256": {_EMBEDDED.name: digest}}
    return arrays, record


def _decode_embedded() -> dict[str, Array]:
    with np.load(_EMBEDDED) as file:
        return {"train_images": file["images"], "train_labels": file["labels"]}


def _published(
    publication: Publication, folder: str | None
) -> tuple[dict[str, Array], dict[str, Any]]:
    place = Path(folder) if folder else cache_folder() / publication.name
    paths = _files(publication, place.expanduser().absolute())
    digests = {path.name: sha256(path) for path in paths.values()}
    joint = hashlib.sha256("".join(digests.values()).encode()).hexdigest()
    arrays = decoded_once(publication.name, joint, lambda: _decode_idx(paths))
    return arrays, {"name": publication.name, "source": str(place), "sha256": digests}


def _files(publication: Publication, folder: Path) -> dict[str, Path]:
    """Returns the path of each array's file; downloads missing files."""
    checksums = {
        f"{name}.gz": md5
        for (name, _), md5 in zip(_FILES.values(), publication.md5, strict=True)
        if find_idx(folder, name) is None
    }
    if checksums:
        download(publication.url, checksums, folder)
    found = {array: find_idx(folder, name) for array, (name, _) in _FILES.items()}
    return {array: path for array, path in found.items() if path}


def _decode_idx(paths: Mapping[str, Path]) -> dict[str, Array]:
    arrays = {name: read_idx(path, _FILES[name][1]) for name, path in paths.items()}
    for part in ("train", "test"):
        images, labels = arrays[f"{part}_images"], arrays[f"{part}_labels"]
        _check(paths[f"{part}_images"], "images of", list(images.shape[1:]), [_SIDE, _SIDE])
        _check(paths[f"{part}_labels"], "labels:", len(labels), len(images))
        _check(paths[f"{part}_labels"], "the classes", np.unique(labels).tolist(), _LABELS)
    return arrays


def _check(path: Path, what: str, received: object, expected: object) -> None:
    if received != expected:
        raise DataError(
            f"{path}: Received {what} {received}. Expected {expected}.\n"
            "Put the published file there."
        )


def _assemble(
    publication: Publication,
    arrays: Mapping[str, Array],
    record: Mapping[str, Any],
    validation: float,
    seed: int,
    input_shape: Sequence[int],
    augmentation: Augmentation | None,
) -> Data:
    inputs = arrays["train_images"].reshape(-1, *input_shape)
    targets = arrays["train_labels"]
    train, held_out = split_by_class(targets, validation, seed)
    splits = {
        "train": Split(inputs[train], targets[train]),
        "validation": Split(inputs[held_out], targets[held_out]),
    }
    if "test_images" in arrays:
        images = arrays["test_images"].reshape(-1, *input_shape)
        splits["test"] = Split(images, arrays["test_labels"])
    counts = {name: len(split) for name, split in splits.items()}
    return Data(
        splits["train"],
        splits["validation"],
        splits.get("test"),
        mean=publication.mean,
        std=publication.std,
        classes=_CLASSES,
        augmentation=augmentation or Augmentation(),
        record={**record, "examples": counts},
    )
