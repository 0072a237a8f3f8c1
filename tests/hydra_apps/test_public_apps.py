"""Five public apps on dlsweep: sweep, prune, kill, resume, trackers. Their YAML stays as it is."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from public_apps import APPS, LIGHTNING, PublicApp

pytestmark = pytest.mark.slow

DOCS = Path(__file__).parents[2] / "docs" / "from-hydra-optuna-sweeper.md"
_TRACKER = "+hydra.sweeper.tracking.csv._target_=dlsweep.trackers.csv.CSVTracker"
#: A trial is pruned at its second epoch if it is bad.
_PRUNER = (
    "hydra/sweeper/pruner=threshold hydra.sweeper.pruner.{} hydra.sweeper.pruner.n_warmup_steps=2"
)


def start(app: PublicApp, folder: Path, *more: str) -> subprocess.Popen[str]:
    for name, text in app.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    typed = shlex.split(f"{app.line} {app.ours}")
    return subprocess.Popen(
        [sys.executable, "train.py", *typed, *more],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def wait_for(path: Path, driver: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not path.exists():
        assert driver.poll() is None, driver.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("app", APPS, ids=lambda app: app.name)
def test_the_walk_of_a_public_app(app: PublicApp, tmp_path: Path) -> None:
    more = [_TRACKER]
    if app.is_pruned:
        more += _PRUNER.format("lower=-5" if app is LIGHTNING else "upper=5").split()
    driver = start(app, tmp_path, *more)
    wait_for(tmp_path / "study" / "trials" / "0001" / "run.json", driver)
    os.killpg(driver.pid, signal.SIGKILL)
    driver.communicate()
    again = start(app, tmp_path, *more)
    output, _ = again.communicate(timeout=240)
    assert again.returncode == 0, output
    assert "Traceback" not in output
    table = pd.read_csv(tmp_path / "study" / "trials.csv")
    assert list(table["number"]) == list(range(app.trials)), "no trial is lost, and none is new"
    assert set(table["state"]) <= {"completed", "pruned"}
    told = pd.read_csv(tmp_path / "study" / "csv" / "0000.csv")
    assert (len(told) > 0) == app.is_pruned, "what is reported is in the tracker"
    for verb in ("verify", "report"):
        done = subprocess.run(
            [sys.executable, "-m", "dlsweep", verb, "study"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    if app is LIGHTNING:
        assert "hydra.sweeper._target_: hydra_plugins.hydra_optuna_sweeper" in output
        assert "is ignored" in output
        command = done.stdout.split("again:\n")[1].splitlines()[0].split()
        assert command[0] == "python"
        alone = subprocess.run([sys.executable, *command[1:]], cwd=tmp_path, timeout=120)
        assert alone.returncode == 0, "the printed command does one run"


def test_the_lines_to_type_stand_in_the_docs() -> None:
    text = DOCS.read_text()
    for app in APPS:
        assert f"`{app.name}`" in text
        assert f"python train.py {app.line} {app.ours}" in text
