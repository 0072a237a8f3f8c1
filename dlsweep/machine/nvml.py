"""Reads GPU metrics from NVML, the management library of NVIDIA's driver."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator, Sequence

_DONE = 0
#: The most processes on one GPU that are looked at.
_PROCESSES = 1000
#: What NVML says instead of a number that it does not know.
_UNKNOWN = 2**64 - 1


class _Utilization(ctypes.Structure):
    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


class _Memory(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_ulonglong) for name in ("total", "free", "used"))


class _Process(ctypes.Structure):
    _fields_ = (
        ("pid", ctypes.c_uint),
        ("used", ctypes.c_ulonglong),
        ("instances", ctypes.c_uint * 2),
    )


class GPUs:
    """GPUs of this machine; none without a driver.

    Args:
        names: The number or UUID of each GPU, as in ``CUDA_VISIBLE_DEVICES``.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._handles: list[ctypes.c_void_p] = []
        if not names:
            return
        try:
            self._library = ctypes.CDLL("libnvidia-ml.so.1")
        except OSError:
            return
        if self._library.nvmlInit_v2() == _DONE:
            self._handles = [self._handle(name) for name in names]

    def read(self) -> Iterator[tuple[str, float]]:
        """Yields metrics by name; those that a GPU does not support are left out."""
        for number, handle in enumerate(self._handles):
            for name, value in self._read(handle):
                yield f"gpu_{number}_{name}", value

    def memory(self) -> dict[str, tuple[int, int]]:
        """Returns bytes by the name of each GPU: all that it has, and what is used of them."""
        found = {}
        for name, handle in zip(self._names, self._handles, strict=False):
            memory = _Memory()
            if self._ask("nvmlDeviceGetMemoryInfo", handle, memory):
                found[name] = (memory.total, memory.used)
        return found

    def _read(self, handle: ctypes.c_void_p) -> Iterator[tuple[str, float]]:
        utilization, memory, milliwatts = _Utilization(), _Memory(), ctypes.c_uint()
        if self._ask("nvmlDeviceGetUtilizationRates", handle, utilization):
            yield "utilization_percentage", float(utilization.gpu)
        if self._ask("nvmlDeviceGetMemoryInfo", handle, memory):
            yield "memory_usage_megabytes", memory.used / 1e6
            yield "memory_usage_percentage", 100 * memory.used / memory.total
        if own := self._own(handle):
            yield "own_memory_usage_megabytes", own / 1e6
        if self._ask("nvmlDeviceGetPowerUsage", handle, milliwatts):
            yield "power_usage_watts", milliwatts.value / 1000

    def _own(self, handle: ctypes.c_void_p) -> int:
        """Returns the bytes that this process's group has of a GPU; 0 if NVML does not tell."""
        ask = getattr(self._library, "nvmlDeviceGetComputeRunningProcesses_v3", None)
        count, found = ctypes.c_uint(_PROCESSES), (_Process * _PROCESSES)()
        if ask is None or ask(handle, ctypes.byref(count), found) != _DONE:
            return 0
        return sum(one.used for one in found[: count.value] if _is_own(one))

    def _ask(
        self,
        question: str,
        handle: ctypes.c_void_p,
        answer: _Utilization | _Memory | ctypes.c_uint,
    ) -> bool:
        return bool(getattr(self._library, question)(handle, ctypes.byref(answer)) == _DONE)

    def _handle(self, name: str) -> ctypes.c_void_p:
        handle = ctypes.c_void_p()
        if name.isdecimal():
            self._library.nvmlDeviceGetHandleByIndex_v2(int(name), ctypes.byref(handle))
        else:
            self._library.nvmlDeviceGetHandleByUUID(name.encode(), ctypes.byref(handle))
        return handle


def _is_own(process: _Process) -> bool:
    """Whether it is of this process's group; in some containers NVML has other numbers for all."""
    with contextlib.suppress(OSError):
        return process.used != _UNKNOWN and os.getpgid(process.pid) == os.getpgrp()
    return False
