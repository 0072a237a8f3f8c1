"""What a trial's process uses, sampled into a file of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dlsweep.errors import ConfigError
from dlsweep.folders.rundir import RunDir
from dlsweep.trial.system_metrics import check_seconds, sampled

CPU, MEMORY = "system/cpu_utilization_percentage", "system/system_memory_usage_megabytes"
HERE = Path(__file__).parent


def samples(run: RunDir) -> list[dict[str, float]]:
    return [{**record.metrics, "step": record.step} for record, _ in run.samples()]


def test_samples_come_at_an_interval_and_at_the_end(make_run: Callable[..., RunDir]) -> None:
    run = make_run()
    with sampled(run, 0.1):
        began = time.monotonic()
        while len(samples(run)) < 3 and time.monotonic() < began + 30:
            sum(range(10_000))
        lasted = time.monotonic() - began
    found = samples(run)
    assert [sample["step"] for sample in found] == list(range(len(found)))
    assert 3 <= len(found) <= lasted / 0.1 + 2
    assert all(10 < sample[MEMORY] < 100_000 for sample in found)
    assert max(sample[CPU] for sample in found) > 30
    with sampled(run, 60):
        pass
    assert [sample["step"] for sample in samples(run)] == list(range(len(found) + 1))


def test_what_children_use_counts(make_run: Callable[..., RunDir]) -> None:
    run, code = make_run(), "x = bytearray(300_000_000); print(1, flush=True); input()"
    with sampled(run, 60):
        pass
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        with sampled(run, 60):
            pass
        child.communicate(b"\n")
    alone, together = (sample[MEMORY] for sample in samples(run))
    assert together - alone > 250


def test_a_torn_line_is_cut_off(make_run: Callable[..., RunDir]) -> None:
    run = make_run()
    with sampled(run, 60):
        pass
    with run.samples_file.open("a") as file:
        file.write('{"step": 1, "ti')
    with sampled(run, 60):
        pass
    assert [sample["step"] for sample in samples(run)] == [0, 1]


def test_null_takes_no_sample(make_run: Callable[..., RunDir]) -> None:
    run = make_run()
    with sampled(run, None):
        pass
    assert not run.samples_file.exists()


def test_a_file_that_cannot_be_written_is_said_and_stops_nothing(
    make_run: Callable[..., RunDir], capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run()
    run.samples_file.symlink_to("/dev/null")
    with sampled(run, 60):
        pass
    assert "No further system metrics: " in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [0, -1, True, "often", float("inf"), float("nan")])
def test_what_is_no_time_is_refused(wrong: object) -> None:
    with pytest.raises(ConfigError, match="Expected the seconds between two samples"):
        check_seconds(wrong)


@pytest.mark.parametrize("right", [None, 10, 0.5])
def test_seconds_or_null_are_taken(right: float | None) -> None:
    check_seconds(right)


def test_each_visible_gpu_has_its_figures(make_run: Callable[..., RunDir], tmp_path: Path) -> None:
    library = tmp_path / "libnvidia-ml.so.1"
    compiler = ["cc", "-shared", "-fPIC", "-o", str(library), str(HERE / "nvml.c")]
    subprocess.run(compiler, check=True)
    run = make_run()
    code = (
        "import sys\nfrom dlsweep.folders.rundir import RunDir\n"
        "from dlsweep.trial.system_metrics import sampled\n"
        "from dlsweep.machine.memory import memory_limits\n"
        "with sampled(RunDir(sys.argv[1]), 60): pass\n"
        "print(memory_limits()['gpu'])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, str(run.path)],
        check=True,
        capture_output=True,
        env={**os.environ, "LD_LIBRARY_PATH": str(tmp_path), "CUDA_VISIBLE_DEVICES": "3,GPU-ab,9"},
    )
    assert int(found.stdout) == 1_000_000_000
    (sample,) = samples(run)
    assert {name: value for name, value in sample.items() if "gpu" in name} == {
        "system/gpu_0_utilization_percentage": 30.0,
        "system/gpu_0_memory_usage_megabytes": 300.0,
        "system/gpu_0_memory_usage_percentage": 30.0,
        "system/gpu_0_power_usage_watts": 3.5,
        "system/gpu_1_memory_usage_megabytes": 700.0,
        "system/gpu_1_memory_usage_percentage": 70.0,
    }


def test_without_a_driver_there_are_no_gpus(
    make_run: Callable[..., RunDir], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    run = make_run()
    with sampled(run, 60):
        pass
    line = json.loads(run.samples_file.read_text())
    assert set(line["metrics"]) >= {CPU, MEMORY}
