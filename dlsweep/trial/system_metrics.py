"""System metrics of a trial: CPU, memory and GPUs, sampled in a thread during training.

Samples have a file of their own in the run folder, because a resumed run keeps them all and pruners
ignore them. Their step is a counter; their names are MLflow's::

    system/cpu_utilization_percentage          of the process and its children; 100 is one core
    system/system_memory_usage_megabytes       their memory
    system/gpu_0_utilization_percentage        of each NVIDIA GPU that the process sees, by all
    system/gpu_0_memory_usage_megabytes        its users; also memory_usage_percentage and
    system/gpu_0_power_usage_watts             power_usage_watts
    system/gpu_0_own_memory_usage_megabytes    of the process and its children, if NVML tells
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

from dlsweep.errors import ConfigError, StudyError
from dlsweep.folders.rundir import RunDir
from dlsweep.machine.devices import gpu_names
from dlsweep.machine.nvml import GPUs
from dlsweep.run.run import append_line

_PROCESSES = Path("/proc")  # Linux only
#: Seconds to wait at the end for a sample that hangs in a device driver.
_PATIENCE = 5.0


def check_seconds(seconds: Any) -> None:
    """Raises ConfigError if ``system_metrics`` is not a number of seconds."""
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if seconds is not None and not (is_number and 0 < seconds < threading.TIMEOUT_MAX):
        raise ConfigError(
            f"system_metrics: Received {seconds!r}. Expected the seconds between two samples of "
            "CPU, memory and GPU, or null for none.\nType, for instance,  system_metrics=10"
        )


@contextlib.contextmanager
def sampled(run: RunDir, seconds: float | None) -> Iterator[None]:
    """Samples this process's system metrics to the run folder. Needs Linux.

    Args:
        run: The run folder.
        seconds: Seconds between two samples; the last one is at the end. None takes no samples.
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
    except (OSError, StudyError) as error:  # such as a full disk; the training will find it, too
        print(f"No further system metrics: {error}", file=sys.stderr)


@contextlib.contextmanager
def _appending(run: RunDir) -> Iterator[tuple[int, int]]:
    """Opens the file of samples without a torn last line; yields it and the number of samples."""
    ends = [end for _, end in run.samples()]
    flags = os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW
    file = os.open(run.samples_file, flags, 0o644)
    try:
        os.ftruncate(file, ends[-1] if ends else 0)
        yield file, len(ends)
    finally:
        os.close(file)


class Usage:
    """The system metrics of this process and its children."""

    def __init__(self) -> None:
        self._gpus = GPUs(gpu_names())
        self._time, (self._cpu_seconds, _) = time.monotonic(), _used(os.getpid())

    def read(self) -> dict[str, float]:
        """Returns the metrics by name; CPU usage is since the last call."""
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
    """Returns the CPU seconds and the bytes of a process and its children, ended ones included."""
    place = _PROCESSES / str(pid)
    fields = (place / "stat").read_text().rpartition(")")[2].split()  # see proc_pid_stat(5)
    seconds = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    memory = int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
    for task in os.listdir(place / "task"):
        with contextlib.suppress(OSError):  # a process that has ended
            for child in (place / "task" / task / "children").read_text().split():
                used = _used(int(child))
                seconds, memory = seconds + used[0], memory + used[1]
    return seconds, memory
