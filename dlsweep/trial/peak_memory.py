"""The most memory that a trial has used: of this machine, and of one GPU."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from dlsweep.folders.rundir import RunDir

_STATUS = Path("/proc/self/status")  # Linux only
_HOST = "system/system_memory_usage_megabytes"
_GPU, _USED, _OWN = "system/gpu_", "_memory_usage_megabytes", "_own_memory_usage_megabytes"


def peak_memory(run: RunDir) -> dict[str, int]:
    """Returns bytes: ``host``, and ``gpu`` of the GPU with most; what is unknown is left out.

    The kernel knows the peak of this process, and PyTorch's allocator that of its GPUs. The
    samples of system metrics add other processes of the trial, what the allocator does not count,
    and other frameworks, whose allocators also keep what they have until the end. What others use
    of a GPU counts only if nothing tells what is the trial's own.

    Args:
        run: The run folder; all samples are in it.
    """
    samples = [record.metrics for record, _ in run.samples()]
    host = [_resident(), *(sample.get(_HOST, 0.0) * 1e6 for sample in samples)]
    own = [*_of_pytorch(), *_on_gpus(samples, _OWN)]
    gpus = own or list(_on_gpus(samples, _USED))
    peaks = {"host": max(host), "gpu": max(gpus, default=0)}
    return {name: round(peak) for name, peak in peaks.items() if peak}


def _on_gpus(samples: Sequence[Mapping[str, float]], figure: str) -> Iterator[float]:
    """Yields a figure of each GPU in each sample, in bytes."""
    for sample in samples:
        for name, value in sample.items():
            if name.startswith(_GPU) and name.endswith(figure):
                yield value * 1e6


def _resident() -> int:
    """Returns the peak of this process's resident memory in bytes; 0 if it is unknown."""
    if not _STATUS.exists():
        return 0
    fields = _STATUS.read_text().partition("VmHWM:")[2].split()
    return int(fields[0]) * 1024 if fields else 0


def _of_pytorch() -> list[float]:
    """Returns what PyTorch has reserved of each GPU; nothing is imported or started for it."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return []
    return [torch.cuda.max_memory_reserved(n) for n in range(torch.cuda.device_count())]
