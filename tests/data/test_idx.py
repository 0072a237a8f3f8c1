"""IDX files, whole and damaged."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dlsweep.data.idx import find_idx, read_idx
from dlsweep.errors import DataError

IMAGES = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
Write = Callable[[Path, np.ndarray], None]


@pytest.mark.parametrize("name", ["images", "images.gz"])
def test_an_array_comes_back_as_it_was(tmp_path: Path, write_idx: Write, name: str):
    write_idx(tmp_path / name, IMAGES)
    read = read_idx(tmp_path / name, 3)
    assert read.dtype == np.uint8
    assert np.array_equal(read, IMAGES)


def test_the_content_tells_whether_a_file_is_gzipped(tmp_path: Path, write_idx: Write):
    write_idx(tmp_path / "plain", IMAGES)
    (tmp_path / "plain").rename(tmp_path / "plain.gz")
    assert np.array_equal(read_idx(tmp_path / "plain.gz", 3), IMAGES)


def test_a_file_is_found_gzipped_or_unpacked(tmp_path: Path, write_idx: Write):
    assert find_idx(tmp_path, "images") is None
    write_idx(tmp_path / "images", IMAGES)
    assert find_idx(tmp_path, "images") == tmp_path / "images"
    (tmp_path / "images").rename(tmp_path / "images.gz")
    assert find_idx(tmp_path, "images") == tmp_path / "images.gz"


def test_a_truncated_file_is_refused(tmp_path: Path, write_idx: Write):
    path = tmp_path / "images"
    write_idx(path, IMAGES)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"Received 23 values\. Expected 24, for its shape"):
        read_idx(path, 3)


def test_a_truncated_gzip_is_refused(tmp_path: Path, write_idx: Write):
    path = tmp_path / "images.gz"
    write_idx(path, IMAGES)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match="is damaged"):
        read_idx(path, 3)


def test_a_gzip_with_a_changed_byte_is_refused(tmp_path: Path):
    path = tmp_path / "images.gz"
    content = bytearray(gzip.compress(bytes(1000)))
    content[-5] ^= 0xFF  # of the checksum at the end
    path.write_bytes(content)
    with pytest.raises(DataError, match="is damaged"):
        read_idx(path, 3)


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", bytes([0, 0, 8, 1, 0])])
def test_another_kind_of_file_is_refused(tmp_path: Path, content: bytes):
    path = tmp_path / "images"
    path.write_bytes(content)
    with pytest.raises(DataError, match="Expected 00 00 08 03"):
        read_idx(path, 3)
