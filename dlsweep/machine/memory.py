"""The memory of this machine: what processes here may use at most, and its GPUs'."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dlsweep.machine.devices import gpu_names
from dlsweep.machine.nvml import GPUs

#: Where the kernel tells of memory and of control groups, which limit containers and jobs.
_MEMORY, _GROUPS = Path("/proc/meminfo"), Path("/proc/self/cgroup")
_V1, _V2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")


def memory_limits() -> dict[str, int]:
    """Returns the bytes of ``host`` memory and of the largest ``gpu``, as far as known."""
    totals = [total for total, _ in GPUs(gpu_names()).memory().values()]
    found = {"host": min(_host(), default=0), "gpu": max(totals, default=0)}
    return {name: limit for name, limit in found.items() if limit}


def _host() -> Iterator[int]:
    if _MEMORY.exists():
        yield int(_MEMORY.read_text().partition("MemTotal:")[2].split()[0]) * 1024
    lines = _GROUPS.read_text().splitlines() if _GROUPS.exists() else []
    for _, kinds, path in (line.split(":", 2) for line in lines):
        if "memory" in kinds.split(","):
            yield from _along(_V1, path, "memory.limit_in_bytes")
        elif not kinds:
            yield from _along(_V2, path, "memory.max")


def _along(root: Path, path: str, name: str) -> Iterator[int]:
    """Yields the limits of a group and of those that it is in; in a container, only the root's."""
    group = root / path.strip("/")
    for place in (group, *group.parents):
        if place.is_relative_to(root) and (place / name).is_file():
            text = (place / name).read_text().strip()
            if text.isdecimal():
                yield int(text)
