"""How much memory there is, of the machine and of the group of processes that limits it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlsweep.machine import memory
from dlsweep.machine.memory import memory_limits


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of a kernel, of a machine without GPUs with 8 GiB."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    (tmp_path / "meminfo").write_text("MemTotal:        8388608 kB\nMemFree:  4 kB\n")
    (tmp_path / "cgroup").write_text("")
    monkeypatch.setattr(memory, "_MEMORY", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(memory, "_V2", tmp_path / "v2")
    monkeypatch.setattr(memory, "_V1", tmp_path / "v1")
    return tmp_path


def group(folder: Path, name: str, text: str) -> None:
    folder.mkdir(parents=True)
    (folder / name).write_text(f"{text}\n")


def test_without_a_group_it_is_the_machines(system: Path) -> None:
    assert memory_limits() == {"host": 8 << 30}
    (system / "meminfo").unlink()
    assert memory_limits() == {}


@pytest.mark.parametrize("kind", ["v1", "v2"])
def test_the_narrowest_group_around_the_process_limits_it(system: Path, kind: str) -> None:
    name = {"v1": "memory.limit_in_bytes", "v2": "memory.max"}[kind]
    line = {"v1": "4:cpu,memory:/job/step", "v2": "0::/job/step"}[kind]
    (system / "cgroup").write_text(f"9:pids:/other\n{line}\n")
    group(system / kind / "job/step", name, "max" if kind == "v2" else str(1 << 62))
    (system / kind / "job" / name).write_text(f"{2 << 30}\n")
    (system / kind / name).write_text(f"{4 << 30}\n")
    assert memory_limits() == {"host": 2 << 30}


def test_a_container_sees_its_group_as_the_root(system: Path) -> None:
    (system / "cgroup").write_text("0::/../somewhere/on/the/host\n")
    group(system / "v2", "memory.max", str(1 << 30))
    assert memory_limits() == {"host": 1 << 30}
