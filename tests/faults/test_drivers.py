"""One driver at a time on a study, on every host; no clock is trusted."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
WALK = ("tracking=none", "training._target_=walk.train", "training.x=range(4)", "-m")


def other_host(tmp_path: Path) -> list[str]:
    """The command under which a process sees another kernel, and has a host name of its own."""
    (tmp_path / "boot_id").write_text("another kernel\n")
    mount = f"mount --bind {tmp_path}/boot_id /proc/sys/kernel/random/boot_id"
    command = ["unshare", "-m", "-u", "sh", "-c", f'{mount} && hostname faraway && exec "$@"', "sh"]
    if (done := subprocess.run([*command, "true"], capture_output=True, text=True)).returncode:
        pytest.skip(f"no namespaces here: {done.stderr.strip()}")
    return command


def wait_until_it_trains(study: Path) -> None:
    deadline = time.monotonic() + 60
    while not list(study.glob("trials/*/work.txt")):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def test_another_host_is_refused_and_takes_over_from_a_dead_one(sweeps, preload, tmp_path) -> None:
    slow = (*WALK, "training.seconds=1", "training.steps=20")
    far = {"LD_PRELOAD": preload("far")}
    first = sweeps.start(*slow, **far)
    wait_until_it_trains(sweeps.study("quadratic"))
    output = sweeps.run(*slow, under=other_host(tmp_path), code=1, **far)
    assert re.search(rf"is locked by process {first.pid} on \S+ since \d{{4}}-", output)
    assert first.poll() is None
    sweeps.kill_all(first)
    began = time.monotonic()
    second = sweeps.start(*slow, under=other_host(tmp_path), **far)
    lease = sweeps.study("quadratic") / "lease.json"
    while "faraway" not in lease.read_text() or not sweeps.training_in("quadratic"):
        assert time.monotonic() < began + 60, "it waits for ever"
        time.sleep(0.2)
    os.kill(second.pid, signal.SIGTERM)
    assert second.communicate(timeout=60)
    assert second.returncode == 0
    assert not lease.exists()


def test_a_driver_that_was_replaced_while_it_slept_touches_nothing(
    sweeps, preload, tmp_path
) -> None:
    two = (*WALK[:2], "training.x=range(2)", "-m")
    hurry = tmp_path / "hurry"
    slow = (*two, "training.seconds=1", "training.steps=60", f"+training.hurry={hurry}")
    far = {"LD_PRELOAD": preload("far")}
    study = sweeps.study("quadratic")
    first = sweeps.start(*slow, **far)
    wait_until_it_trains(study)
    first.send_signal(signal.SIGSTOP)
    second = sweeps.start(*slow, under=other_host(tmp_path), **far)
    while "faraway" not in (study / "lease.json").read_text():
        assert second.poll() is None
        time.sleep(0.2)
    first.send_signal(signal.SIGCONT)
    output, _ = first.communicate(timeout=30)
    assert first.returncode == os.EX_TEMPFAIL
    assert re.search(r"Another driver has taken over, process \d+ on faraway", output)
    hurry.touch()
    output, _ = second.communicate(timeout=120)
    assert second.returncode == 0, output
    sweeps.assert_exactly_once("quadratic", 2)


def test_another_host_sees_and_stops_a_driver_by_its_folder(sweeps, preload, tmp_path) -> None:
    far = {**os.environ, "LD_PRELOAD": preload("far")}
    driver = sweeps.start(*WALK, "training.seconds=1", "training.steps=200", **far)
    study = sweeps.study("quadratic")
    wait_until_it_trains(study)

    def from_there(verb: str, *options: str) -> subprocess.CompletedProcess[str]:
        words = [*other_host(tmp_path), sys.executable, "-m", "dlsweep", verb, str(study), *options]
        return subprocess.run(
            words, env=far, cwd=sweeps.path, capture_output=True, text=True, timeout=100
        )

    (seen,) = json.loads(from_there("status", "--json").stdout)
    assert (seen["state"], seen["driver"]["pid"]) == ("running", driver.pid)
    assert seen["trials"]["running"] >= 1
    assert "has stopped" in from_there("stop").stdout
    assert "Stopping, as asked" in driver.communicate(timeout=60)[0]
    assert driver.returncode == 0


def test_steps_of_the_wall_clock_change_nothing(sweeps, preload, tmp_path) -> None:
    step = tmp_path / "step"
    step.write_text("0")
    clock = {"LD_PRELOAD": preload("clock"), "CLOCK_STEP": str(step)}
    limits = ("hydra.sweeper.step_timeout=30", "hydra.sweeper.trial_timeout=60")
    driver = sweeps.start(*WALK, *limits, "hydra.sweeper.timeout=100", "training.steps=40", **clock)
    wait_until_it_trains(sweeps.study("quadratic"))
    turn = 0
    while driver.poll() is None:
        step.write_text(str((3600, -3600, 0)[turn % 3]))
        turn += 1
        time.sleep(0.3)
    assert driver.returncode == 0, driver.stdout.read()
    assert turn >= 4
    sweeps.assert_exactly_once("quadratic", 4)
    assert set(sweeps.table("quadratic")["state"]) == {"completed"}
