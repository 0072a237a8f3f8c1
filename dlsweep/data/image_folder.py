"""Image folders with one subfolder for each class; images are decoded once and cached."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from dlsweep.data.augmentation import Augmentation
from dlsweep.data.base import Array, Data, Split, split_by_class
from dlsweep.data.cache import decoded_once
from dlsweep.errors import ConfigError, DataError, MissingExtraError
from dlsweep.machine.devices import cpu_count

#: The version of how images are decoded, so that arrays that an earlier one cached are not used.
_DECODER = 2
#: Pillow's image modes, by number of channels.
_MODES = {1: "L", 3: "RGB"}


def image_folder(
    folder: str,
    image_size: int | Sequence[int],
    channels: int = 3,
    validation: float = 0.2,
    seed: int = 0,
    augmentation: Augmentation | None = None,
    input_shape: Sequence[int] | None = None,
    classes: int | None = None,
) -> Data:
    """Loads images from a folder with one subfolder for each class, in any format of Pillow.

    EXIF orientation is applied, an alpha channel is dropped, and 16 bits are scaled to 8.

    Args:
        folder: The folder; its subfolders' names, sorted, are the classes 0, 1, and so on.
        image_size: [height, width] in pixels to resize images to, or one number for both.
        channels: 3 for color, 1 for gray.
        validation: The share of images to hold out, equal for each class.
        seed: The seed of that choice.
        augmentation: The augmentation of the training images.
        input_shape: None, or the expected [channels, height, width].
        classes: None, or the expected number of classes.

    Raises:
        ConfigError: If an argument is out of range, or the folder is not as expected.
        DataError: If a folder or an image cannot be used; the message has its path.
        MissingExtraError: If Pillow is not installed.
    """
    height, width = [image_size] * 2 if isinstance(image_size, int) else image_size
    if min(height, width) < 1 or channels not in _MODES:
        raise ConfigError(
            f"data.image_size, data.channels: Received {image_size} and {channels}. "
            "Expected sizes above 0, and 1 or 3 channels."
        )
    root = Path(folder).expanduser().absolute()
    files = _files(root)
    _check("input_shape", input_shape, [channels, height, width])
    _check("classes", classes, len(files))
    paths = [path for members in files.values() for path in members]
    targets = np.repeat(np.arange(len(files)), [len(members) for members in files.values()])
    digest = _digest(root, paths, _DECODER, height, width, channels)
    arrays = decoded_once("image_folder", digest, lambda: _decode(paths, height, width, channels))
    train, held_out = split_by_class(targets, validation, seed)
    mean, std = _statistics(arrays["moments"][train])
    return Data(
        Split(arrays["images"][train], targets[train]),
        Split(arrays["images"][held_out], targets[held_out]),
        mean=mean.reshape(channels, 1, 1),
        std=std.reshape(channels, 1, 1),
        classes=len(files),
        augmentation=augmentation or Augmentation(),
        record={
            "name": "image_folder",
            "source": str(root),
            "sha256": digest,
            "class_names": list(files),
            "examples": {"train": len(train), "validation": len(held_out)},
        },
    )


def _files(root: Path) -> dict[str, list[Path]]:
    """Returns the images of each class, without hidden files."""
    if not root.is_dir():
        raise DataError(f"data.folder: {root} is not a folder.\nType  data.folder=<folder>")
    folders = sorted(each for each in root.iterdir() if each.is_dir() and each.name[0] != ".")
    if not folders:
        raise DataError(
            f"data.folder: {root} has no folders in it.\n"
            "Expected one for each class, with its images, such as cat/1.jpg and dog/1.jpg."
        )
    found = {each.name: sorted(_visible(each)) for each in folders}
    for name, paths in found.items():
        if not paths:
            raise DataError(
                f"data.folder: the class folder {root / name} is empty.\n"
                "Put images of that class there, or remove it."
            )
    return found


def _visible(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.name[0] != "."]


def _check(name: str, received: object, found: object) -> None:
    if received is not None and received != found:
        raise ConfigError(f"data.{name}: Received {received}. Expected {found}, as in the folder.")


def _digest(root: Path, paths: list[Path], *options: int) -> str:
    """Returns a digest of names, sizes and modification times: reading all bytes is slow."""
    digest = hashlib.sha256(repr((str(root), options)).encode())
    for path in paths:
        stat = path.stat()
        digest.update(f"{path.relative_to(root)}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode())
    return digest.hexdigest()


def _decode(paths: list[Path], height: int, width: int, channels: int) -> dict[str, Array]:
    """Decodes all images; also returns each one's mean and mean square by channel, in 0..1."""
    images = np.empty((len(paths), channels, height, width), np.uint8)
    moments = np.empty((len(paths), 2, channels))

    def fill(position: int) -> None:
        images[position] = _image(paths[position], height, width, channels)
        pixels = images[position].reshape(channels, -1) / 255.0
        moments[position] = pixels.mean(1), np.square(pixels).mean(1)

    with ThreadPoolExecutor(cpu_count()) as pool:
        for _ in pool.map(fill, range(len(paths))):
            pass  # reading the results raises the threads' exceptions
    return {"images": images, "moments": moments}


def _image(path: Path, height: int, width: int, channels: int) -> Array:
    try:
        from PIL import Image, ImageOps
    except ModuleNotFoundError:
        raise MissingExtraError("pillow", "data=image_folder") from None
    try:
        with Image.open(path) as file:
            upright = _eight_bits(ImageOps.exif_transpose(file)).convert(_MODES[channels])
        pixels = np.asarray(upright.resize((width, height), Image.Resampling.BILINEAR))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(
            f"{path} cannot be read as an image: {error}.\nRepair it, or remove it."
        ) from None
    return pixels.reshape(height, width, channels).transpose(2, 0, 1)


def _eight_bits(image: Any) -> Any:
    """Scales 16-bit gray to 8 bits: Pillow's own conversion cuts off at 255, which is white.

    Raises:
        ValueError: If the range of the pixels is unknown.
    """
    if image.mode.startswith("I;16"):
        from PIL import Image

        return Image.fromarray(((np.asarray(image, np.uint32) + 128) // 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        kind = "integers" if image.mode == "I" else "floats"
        raise ValueError(
            f"its pixels are 32-bit {kind} of an unknown range; expected 8 or 16 bits a channel"
        )
    return image


def _statistics(moments: Array) -> tuple[Array, Array]:
    """Returns the mean and standard deviation of each channel; 1 for a constant channel."""
    mean, square = moments.mean(axis=0)
    std = np.sqrt(np.maximum(square - np.square(mean), 0.0))
    return mean, np.where(std > 1e-6, std, 1.0)
