"""Devices of this machine, and how they are divided into slots."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from dlsweep.errors import ConfigError, DeviceError

Share = float | Literal["auto"]
Replicas = int | Literal["auto"]


@dataclass(frozen=True)
class Slot:
    """The devices of one trial.

    Attributes:
        gpus: Its GPUs, as in ``CUDA_VISIBLE_DEVICES``.
        threads: The number of its CPU threads.
    """

    gpus: tuple[str, ...]
    threads: int

    def environment(self) -> dict[str, str]:
        """Returns the environment variables that limit a trial to its slot."""
        threads = str(self.threads)
        return {
            "CUDA_VISIBLE_DEVICES": ",".join(self.gpus),
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            "OPENBLAS_NUM_THREADS": threads,
            THREADS_VARIABLE: threads,
        }


#: The most trials on one GPU that share it by their predicted memory.
_MOST = 4
#: The environment variables with a trial's number of threads, and of nodes that it trains on.
THREADS_VARIABLE, NODES_VARIABLE = "DLSWEEP_THREADS", "DLSWEEP_NODES"


def cpu_count() -> int:
    """Returns the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpu_names() -> list[str]:
    """Returns the GPUs that this process may use, without importing a framework."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name not in ("", "-1")]
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    query = [program, "--query-gpu=index", "--format=csv,noheader"]
    found = subprocess.run(query, capture_output=True, text=True, timeout=30, check=False)  # noqa: S603
    return found.stdout.split() if found.returncode == 0 else []


def node_count() -> int:
    """Returns the number of nodes that this trial trains on."""
    return int(os.environ.get(NODES_VARIABLE, 1))


def replica_count(replicas: Replicas, on_gpus: bool) -> int:
    """Returns the number of devices that this trial trains its model on, on all its nodes.

    Args:
        replicas: The number; ``auto`` is one for each GPU that the launcher gave this process or,
            without GPUs, one for each node.
        on_gpus: Whether it may use GPUs.

    Raises:
        DeviceError: If it has GPUs, but fewer than that.
        ConfigError: If its nodes cannot have the same number each.
    """
    nodes = node_count()
    given = nodes * len(gpu_names()) if on_gpus and THREADS_VARIABLE in os.environ else 0
    if replicas == "auto":
        return max(nodes, given)
    if replicas % nodes:
        raise ConfigError(
            f"training.replicas: Received {replicas} on {nodes} nodes. Expected auto, or a "
            f"multiple of {nodes}.\nType  training.replicas={nodes}"
        )
    if 0 < given < replicas:
        on_nodes = f" on its {nodes} nodes" * (nodes > 1)
        raise DeviceError(
            f"training.replicas: Received {replicas}. This trial has {given} GPU"
            f"{'s' * (given != 1)}{on_nodes}.\nType  launcher.gpus_per_trial={replicas // nodes}"
        )
    return replicas


def cut_slots(cpus_per_trial: Share = "auto", gpus_per_trial: Share = "auto") -> list[Slot]:
    """Divides this machine into slots.

    Args:
        cpus_per_trial: Cores for each trial; ``auto`` is one, or an equal share of the cores if
            there are GPUs.
        gpus_per_trial: GPUs for each trial; with a fraction, several trials share one; ``auto`` is
            one if there are GPUs, else none. See :func:`shared`.

    Raises:
        DeviceError: If not even one trial fits.
        ConfigError: If a share is not positive, or neither whole nor a fraction of one.
    """
    gpus, cpus = gpu_names(), cpu_count()
    share = (1.0 if gpus else 0.0) if gpus_per_trial == "auto" else float(gpus_per_trial)
    if share < 0 or (share > 1 and share != int(share)):
        raise ConfigError(
            f"launcher.gpus_per_trial: Received {gpus_per_trial}. "
            "Expected auto, 0, a fraction of one, or a whole number."
        )
    if share > len(gpus):
        raise DeviceError(
            f"launcher.gpus_per_trial: Received {gpus_per_trial}. "
            f"This machine has {len(gpus)} GPU{'s' * (len(gpus) != 1)}."
        )
    groups = _gpu_groups(gpus, share)
    threads = _threads(cpus, cpus_per_trial, len(groups))
    if not share:
        groups = [()] * (cpus // threads)
    return [Slot(group, threads) for group in groups[: max(1, cpus // threads)]]


def shared(slots: Sequence[Slot], cpus_per_trial: Share) -> list[Slot]:
    """Returns the slots of a machine whose GPUs several trials may share, each with a core.

    A trial has as many threads as with a GPU of its own, so that its results are the same.

    Args:
        slots: The slots, each with a GPU of its own.
        cpus_per_trial: Cores for each trial; ``auto`` is at least one.
    """
    cores = 1 if cpus_per_trial == "auto" else slots[0].threads
    most = max(len(slots), cpu_count() // cores)
    return (list(slots) * _MOST)[:most]


def _gpu_groups(gpus: list[str], share: float) -> list[tuple[str, ...]]:
    if not share:
        return []
    if share < 1:
        return [(gpu,) for _ in range(int(1 / share + 1e-9)) for gpu in gpus]
    size = int(share)
    return [tuple(gpus[i : i + size]) for i in range(0, len(gpus) - size + 1, size)]


def _threads(cpus: int, wanted: Share, groups: int) -> int:
    if wanted == "auto":
        return max(1, cpus // groups) if groups else 1
    if wanted != int(wanted) or not wanted >= 1:
        raise ConfigError(
            f"launcher.cpus_per_trial: Received {wanted}. Expected auto or a whole number from 1."
        )
    if wanted > cpus:
        raise DeviceError(
            f"launcher.cpus_per_trial: Received {wanted:g}. This machine has {cpus} cores."
        )
    return int(wanted)
