"""What a trial's process uses while it trains, sampled by a thread beside the training.

The samples have a file of their own in the run folder: a run that goes on from a checkpoint cuts
none of them, and nobody judges a run by them. Their step counts them; their names are MLflow's::

    system/cpu_utilization_percentage          of the process and those below it; 100 is one core
    system/system_memory_usage_megabytes       what these hold in memory
    system/gpu_0_utilization_percentage        of each NVIDIA GPU that the process sees, whoever
    system/gpu_0_memory_usage_megabytes        uses it; likewise memory_usage_percentage and
    system/gpu_0_power_usage_watts             power_usage_watts
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dlsweep.errors import ConfigError
from dlsweep.folders.rundir import RunDir
from dlsweep.machine.devices import gpu_names
from dlsweep.machine.nvml import GPUs
from dlsweep.run.run import append_line

_PROCESSES = Path("/proc")  # of Linux
#: Seconds to wait at the end for a sample that hangs in a driver.
_PATIENCE = 5.0


def check_seconds(seconds: Any) -> None:
    """Raises ConfigError if ``system_metrics`` is no time between two samples."""
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if seconds is not None and not (is_number and 0 < seconds < threading.TIMEOUT_MAX):
        raise ConfigError(
            f"system_metrics: Received {seconds!r}. Expected the seconds between two samples of "
            "CPU, memory and GPU, or null for none.\nType, for instance,  system_metrics=10"
        )


@contextlib.contextmanager
def sampled(run: RunDir, seconds: float | None) -> Iterator[None]:
    """Samples what this process uses into the run's folder.

    Args:
        run: The folder.
        seconds: Between two samples; the last comes at the end. None takes none. They need Linux.
    """
    if seconds is None or not _PROCESSES.is_dir():
        yield
        return
    over = threading.Event()
    thread = threading.Thread(target=_sample, args=(run, seconds, over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(_PATIENCE)


def _sample(run: RunDir, seconds: float, over: threading.Event) -> None:
    try:
        with _appending(run) as (file, step):
            usage, is_over = Usage(), False
            while not is_over:
                is_over = over.wait(seconds)
                record = {"step": step, "time": time.time(), "metrics": usage.read()}
                append_line(file, json.dumps(record).encode() + b"\n")
                step += 1
    except OSError as error:  # such as a full disk, which the training will meet as well
        print(f"No further system metrics: {error}.", file=sys.stderr)


@contextlib.contextmanager
def _appending(run: RunDir) -> Iterator[tuple[int, int]]:
    """The file of the samples, with no torn line at its end, and how many it holds."""
    ends = [end for _, end in run.samples()]
    flags = os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW
    file = os.open(run.samples_file, flags, 0o644)
    try:
        os.ftruncate(file, ends[-1] if ends else 0)
        yield file, len(ends)
    finally:
        os.close(file)


class Usage:
    """What this process and those below it use."""

    def __init__(self) -> None:
        self._gpus = GPUs(gpu_names())
        self._time, (self._cpu_seconds, _) = time.monotonic(), _used(os.getpid())

    def read(self) -> dict[str, float]:
        """The figures by name; those of the CPU are since the last call."""
        now, (cpu_seconds, memory) = time.monotonic(), _used(os.getpid())
        cpu = (cpu_seconds - self._cpu_seconds) / max(now - self._time, 1e-3)
        self._time, self._cpu_seconds = now, cpu_seconds
        figures = {
            "cpu_utilization_percentage": max(0.0, 100 * cpu),
            "system_memory_usage_megabytes": memory / 1e6,
            **dict(self._gpus.read()),
        }
        return {f"system/{name}": round(value, 3) for name, value in figures.items()}


def _used(pid: int) -> tuple[float, int]:
    """CPU seconds, those of ended children included, and bytes of a process and all below it."""
    place = _PROCESSES / str(pid)
    fields = (place / "stat").read_text().rpartition(")")[2].split()  # see proc_pid_stat(5)
    seconds = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    memory = int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
    for task in os.listdir(place / "task"):
        with contextlib.suppress(OSError):  # what has ended meanwhile
            for child in (place / "task" / task / "children").read_text().split():
                used = _used(int(child))
                seconds, memory = seconds + used[0], memory + used[1]
    return seconds, memory
