"""A machine with eight cores and GPUs, which libraries in the place of the real ones tell of."""

from __future__ import annotations

import subprocess
from pathlib import Path

HERE = Path(__file__).parent
GB = 1_000_000_000


def build(folder: Path, total: int = 80 * GB) -> dict[str, str]:
    """Compiles the libraries; returns the environment variables of a process on that machine.

    Args:
        folder: Where they go, and the files that say what processes have of the GPUs.
        total: The bytes that each GPU has.
    """
    gpus = folder / "gpus"
    gpus.mkdir(parents=True)
    for source, library in (("gpus.c", "libnvidia-ml.so.1"), ("cores.c", "cores.so")):
        target = ["-o", str(folder / library), str(HERE / source)]
        subprocess.run(["cc", "-shared", "-fPIC", *target], check=True)
    return {
        "LD_LIBRARY_PATH": str(folder),
        "LD_PRELOAD": str(folder / "cores.so"),
        "FAKE_GPUS": str(gpus),
        "FAKE_GPU_BYTES": str(total),
    }
