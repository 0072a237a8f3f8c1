"""What one trial, or a tracker, does to itself does nothing to the others."""

from __future__ import annotations

import json
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
QUIET = ("tracking=none", "hydra.sweeper.max_failure_rate=1", "-m")


def metrics(trial: Path) -> dict[str, float]:
    return json.loads((trial / "result.json").read_text())["metrics"]


def test_what_a_trial_leaks_the_next_does_not_notice(sweeps, times) -> None:
    count = times("leaking trials")
    alone = "system_metrics=null"  # its thread opens a file of /proc now and then
    sweeps.run(*QUIET, alone, "training._target_=leaky.train", f"training.x=range({count})")
    found = [metrics(trial) for trial in sweeps.trials("quadratic")]
    memory = {one.pop("memory") for one in found}
    assert len(found) == count
    assert all(one == found[0] for one in found), found
    assert max(memory) - min(memory) <= 4, "steps of 4 MB"
    left = subprocess.run(["pgrep", "-fx", "sleep 654321"], capture_output=True, text=True)
    assert not left.stdout, "nor is what it started still there"


@pytest.fixture
def memory_group() -> Iterator[Path]:
    """A control group with 64 MB."""
    group = Path("/sys/fs/cgroup/memory") / f"faults-{uuid.uuid4().hex}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(64 << 20))
    except OSError as error:
        pytest.skip(f"no control group (version 1) can be made here: {error}")
    yield group
    group.rmdir()


def test_the_kernel_kills_for_memory_and_it_is_named_so(sweeps, memory_group) -> None:
    arguments = (*QUIET, "training._target_=eater.train", "training.x=range(4)")
    sweeps.run(*arguments, MEMORY_GROUP=str(memory_group))
    table = sweeps.table("quadratic")
    assert list(table["state"]) == ["completed", "out_of_memory", "completed", "completed"]
    assert "as the kernel does when memory runs out" in table["reason"][1]


def test_a_trial_of_a_dead_driver_that_does_not_end_is_ended(sweeps) -> None:
    arguments = (*QUIET, "training._target_=stubborn.train", "training.x=choice(1)")
    driver = sweeps.start(*arguments)
    trial = sweeps.study("quadratic") / "trials" / "0000"
    deadline = time.monotonic() + 60
    while not (trial / "begun").exists():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    (orphan,) = sweeps.training_in("quadratic")
    driver.kill()
    driver.communicate()
    assert sweeps.training_in("quadratic") == [orphan]
    output = sweeps.run(*arguments, "hydra.sweeper.grace=2")
    assert f"0000 is still ending: process {orphan} on" in output
    assert "1 trials (1 completed)" in output
    assert not sweeps.training_in("quadratic")


def test_a_tracker_that_hangs_is_left_behind_and_said(sweeps, times) -> None:
    if not times("hung trackers"):
        pytest.skip("it takes more than a minute: only with --long-faults")
    tracker = "+tracking.hanging._target_=hanging.HangingTracker"
    output = sweeps.run(*QUIET, tracker, "training.x=1,2")
    assert "A tracker does not answer" in output
    assert "python -m dlsweep sync" in output
    assert "2 trials (2 completed)" in output
