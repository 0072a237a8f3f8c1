"""A disk that is full stops a sweep with a sentence; with room, the same command goes on."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
HEAVY = ("tracking=none", "training._target_=heavy.train", "training.x=range(6)", "-m")


@pytest.fixture
def disk(sweeps) -> Iterator[Callable[[str], None]]:
    """Gives the project's outputs a disk of their own, of a size that may change."""
    folder = sweeps.path / "outputs"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if (done := subprocess.run(mount, capture_output=True, text=True)).returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {done.stderr.strip()}")
    yield lambda size: resize(folder, size)
    subprocess.run(["umount", "-l", str(folder)], check=True)


def resize(folder: Path, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)


def test_a_full_disk_stops_a_sweep_and_room_lets_it_go_on(sweeps, disk) -> None:
    output = sweeps.run(*HEAVY, code=1)
    assert "The disk is full" in output
    assert "Free some space and type the same command" in output
    assert "Traceback" not in output
    assert not sweeps.training_in("quadratic")
    assert "The disk is full" in sweeps.run(*HEAVY, code=1), "also where there is none at all"
    disk("20m")
    sweeps.run(*HEAVY)
    sweeps.assert_exactly_once("quadratic", 6)
    assert set(sweeps.table("quadratic")["state"]) == {"completed"}
