"""The most memory that a trial has used."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from dlsweep.folders.rundir import RunDir
from dlsweep.trial.peak_memory import peak_memory

#: Prints the peaks of a process that has used 300 MB, and has them no more.
CODE = """
import json, sys
from dlsweep.folders.rundir import RunDir
from dlsweep.trial.peak_memory import peak_memory
large = b"x" * 300_000_000
del large
print(json.dumps(peak_memory(RunDir(sys.argv[1]))))
"""


def write_sample(run: RunDir, **figures: float) -> None:
    metrics = {f"system/{name}": value for name, value in figures.items()}
    with run.samples_file.open("a") as file:
        file.write(json.dumps({"step": 0, "time": 0.0, "metrics": metrics}) + "\n")


def test_the_peak_counts_also_if_the_memory_is_free_again(make_run: Callable[..., RunDir]) -> None:
    code = [sys.executable, "-c", CODE, str(make_run().path)]
    found = json.loads(subprocess.run(code, check=True, capture_output=True).stdout)
    assert found.keys() == {"host"}
    assert 300e6 < found["host"] < 600e6


def test_samples_add_other_processes_and_gpus(make_run: Callable[..., RunDir]) -> None:
    run = make_run()
    gpus = {"gpu_0_memory_usage_percentage": 99.0, "gpu_0_memory_usage_megabytes": 3000.0}
    write_sample(run, system_memory_usage_megabytes=900_000.0, gpu_1_memory_usage_megabytes=5000.0)
    write_sample(run, system_memory_usage_megabytes=1.0, **gpus)
    assert peak_memory(run) == {"host": 900_000_000_000, "gpu": 5_000_000_000}


def test_pytorch_knows_its_peak_better_than_samples(
    make_run: Callable[..., RunDir], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, reserved = make_run(), [7_000_000_000, 8_000_000_000]
    write_sample(run, gpu_0_memory_usage_megabytes=70_000.0)
    cuda = SimpleNamespace(
        is_initialized=lambda: True,
        device_count=lambda: len(reserved),
        max_memory_reserved=reserved.__getitem__,
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    assert peak_memory(run)["gpu"] == 8_000_000_000
    cuda.is_initialized = lambda: False
    assert peak_memory(run)["gpu"] == 70_000_000_000
