"""A study of very many trials: the last cost what the first did, and every command answers soon."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]
#: Trials of no work, in the driver's own process, so that they tell what it uses.
MANY = (
    "+experiment=quadratic",
    "tracking=none",
    "training._target_=noop.train",
    "launcher=inline",
    "hydra/sweeper/sampler=random",
    "hydra/sweeper/pruner=none",
    "-m",
)
#: Bytes that a driver may keep of each trial, and seconds in which a command answers.
KEPT, SOON = 8_000, 60.0


def test_time_and_memory_a_trial_stay_flat_and_commands_answer_in_seconds(sweeps, times) -> None:
    count = times("trials in one study")
    asked = (*MANY, f"hydra.sweeper.n_trials={count}")
    sweeps.run(*asked)
    assert list(sweeps.table("quadratic")["number"]) == list(range(count))
    ends = [
        json.loads((t / "result.json").read_text())["metrics"] for t in sweeps.trials("quadratic")
    ]
    part = count // 5
    first, last = ends[20 : 20 + part], ends[-part:]  # after the first few, for what they import
    cost = [(some[-1]["seconds"] - some[0]["seconds"]) / (part - 1) for some in (first, last)]
    kept = (last[-1]["memory"] - first[-1]["memory"]) / (count - 20 - part)
    print(f"{count} trials: {cost[0]:.4f} and {cost[1]:.4f} s of processor, {kept:.0f} bytes each")
    assert cost[1] < 1.5 * cost[0]
    assert kept < KEPT
    study = str(sweeps.study("quadratic"))
    for command in (
        ["report", study],
        ["verify", study],
        ["--help"],
        [*asked, "hydra.sweeper.plan=true"],
        asked,
    ):
        assert answered(sweeps, *command) < SOON, command
    assert answered(sweeps, *MANY, f"hydra.sweeper.n_trials={count + 2}") < SOON
    assert list(sweeps.table("quadratic")["number"]) == list(range(count + 2))


def answered(sweeps, *arguments: str) -> float:
    """Seconds until a command has ended."""
    began = time.monotonic()
    command = [sys.executable, "-m", "dlsweep", *arguments]
    done = subprocess.run(command, cwd=sweeps.path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    seconds = time.monotonic() - began
    print(f"{seconds:.1f} s: {' '.join(arguments)}")
    return seconds
