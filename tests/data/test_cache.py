"""The cache of decoded arrays."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dlsweep.data.cache import decoded_once
from dlsweep.errors import DataError

DIGEST = "0123456789abcdef"
ONE_PROCESS = """
import numpy, sys
from dlsweep.data.cache import decoded_once
sys.stdin.read(1)
arrays = decoded_once("numbers", "0123456789abcdef", lambda: {"x": numpy.arange(1_000_000)})
print(int(arrays["x"].sum()))
"""


def test_arrays_are_decoded_once_and_then_mapped(cache: Path):
    calls = []

    def decode() -> dict[str, np.ndarray]:
        calls.append(1)
        return {"x": np.arange(5), "y": np.ones((2, 2))}

    for _ in range(2):
        arrays = decoded_once("numbers", DIGEST, decode)
        assert arrays["x"].tolist() == [0, 1, 2, 3, 4]
        assert arrays["y"].shape == (2, 2)
    assert len(calls) == 1
    assert isinstance(arrays["x"], np.memmap)
    assert [path.name for path in cache.iterdir()] == ["numbers-0123456789ab"]


def test_mapped_arrays_cannot_be_written_to():
    arrays = decoded_once("numbers", DIGEST, lambda: {"x": np.arange(5)})
    with pytest.raises(ValueError, match="read-only"):
        arrays["x"][0] = 1


def test_another_digest_is_another_entry():
    decoded_once("numbers", DIGEST, lambda: {"x": np.arange(5)})
    other = decoded_once("numbers", DIGEST[::-1], lambda: {"x": np.arange(3)})
    assert len(other["x"]) == 3


def test_a_failed_decoding_leaves_nothing_behind(cache: Path):
    def decode() -> dict[str, np.ndarray]:
        raise DataError("damaged")

    with pytest.raises(DataError):
        decoded_once("numbers", DIGEST, decode)
    assert not cache.exists()


def test_processes_that_start_at_once_all_get_the_arrays(cache: Path):
    command = [sys.executable, "-c", ONE_PROCESS]
    pipe = subprocess.PIPE
    started = [
        subprocess.Popen(command, stdin=pipe, stdout=pipe, env=dict(os.environ), text=True)
        for _ in range(4)
    ]
    for process in started:
        process.stdin.write("go")
        process.stdin.flush()
    answers = [process.communicate(timeout=60)[0].strip() for process in started]
    assert answers == ["499999500000"] * 4
    assert [path.name for path in cache.iterdir()] == ["numbers-0123456789ab"]


def test_a_cache_that_cannot_be_written_names_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(DataError, match=r"cannot be written: Not a dir[\s\S]*XDG_CACHE_HOME="):
        decoded_once("numbers", DIGEST, lambda: {"x": np.arange(5)})


def test_a_damaged_entry_is_named(cache: Path):
    decoded_once("numbers", DIGEST, lambda: {"x": np.arange(500)})
    path = cache / "numbers-0123456789ab" / "x.npy"
    os.truncate(path, 200)
    with pytest.raises(DataError, match=r"numbers-0123456789ab is damaged[\s\S]*Remove"):
        decoded_once("numbers", DIGEST, lambda: {"x": np.arange(500)})
