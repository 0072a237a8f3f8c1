"""How fast the mirror is, and that a long run neither grows its memory nor leaves it behind.

Prints the records a second that the mirror tells MLflow on SQLite against a plain loop of
``mlflow.log_metric`` (bar 20). Then it follows a run that logs as fast as it can, to all four
trackers, and prints how long after the last record it was done, and how much it and W&B's service
have grown since all trackers were told a tenth (bar 100 MB). Optional arguments: the records of the
long run (a million by default), and its trackers.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from mlflow.tracking import MlflowClient
from omegaconf import OmegaConf

from dlsweep.folders.rundir import Result, RunDir, RunInfo
from dlsweep.run.run import Run
from dlsweep.trackers import mirror

LOOP, MIRRORED = 500, 20_000
OPTIONS = {
    "mlflow": {
        "_target_": "dlsweep.trackers.mlflow.MLflowTracker",
        "tracking_uri": "sqlite:///{folder}/mirrored.db",
    },
    "wandb": {
        "_target_": "dlsweep.trackers.wandb.WandbTracker",
        "project": "bench",
        "mode": "offline",
    },
    "tensorboard": {"_target_": "dlsweep.trackers.tensorboard.TensorBoardTracker"},
    "csv": {"_target_": "dlsweep.trackers.csv.CSVTracker"},
}


def make_run(folder: str, trackers: list[str]) -> RunDir:
    tracking = {
        name: {key: value.format(folder=folder) for key, value in OPTIONS[name].items()}
        for name in trackers
    }
    info = RunInfo("0", "0", "bench", None, [], [], [], {}, tracking, time.time())
    run = RunDir(Path(folder) / "run")
    run.create(info, OmegaConf.create())
    return run


def log(run: Run, steps: range) -> float:
    """Seconds that training code needs to log a record for each of these steps."""
    start = time.perf_counter()
    for step in steps:
        run.log({"loss": 1 / (step + 1)}, step=step)
    return time.perf_counter() - start


def loop_rate(folder: str) -> float:
    client = MlflowClient(f"sqlite:///{folder}/loop.db")
    run_id = client.create_run("0").info.run_id
    client.log_metric(run_id, "loss", 0.0, step=0)
    start = time.perf_counter()
    for step in range(1, LOOP):
        client.log_metric(run_id, "loss", float(step), step=step)
    return (LOOP - 1) / (time.perf_counter() - start)


def mirror_rate(folder: str) -> float:
    folder_of_run = make_run(folder, ["mlflow"])
    with Run.open(folder_of_run.path) as run:
        log(run, range(MIRRORED))
    start = time.perf_counter()
    assert mirror.sync(folder_of_run.path) == {"mlflow": MIRRORED}
    return MIRRORED / (time.perf_counter() - start)


def long_run(folder: str, records: int, trackers: list[str]) -> tuple[float, float, float]:
    """Seconds to log, seconds from then until all was told, and megabytes grown meanwhile."""
    run_dir = make_run(folder, trackers)
    follow = [sys.executable, "-m", "dlsweep", "sync", str(run_dir.path), "--follow"]
    process = subprocess.Popen(follow, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    with Run.open(run_dir.path) as run:
        log(run, range(records // 10))
        size = run_dir.records_file.stat().st_size
        while any(told(run_dir, tracker) < size for tracker in trackers):
            assert process.poll() is None
            time.sleep(0.2)
        before = highest = megabytes(process.pid)
        logging = log(run, range(records // 10, records))
    run_dir.write_result(Result("completed", ended=time.time()))
    assert process.stdin
    process.stdin.close()
    start = time.perf_counter()
    while process.poll() is None:
        time.sleep(0.2)
        highest = max(highest, megabytes(process.pid))
    waited = time.perf_counter() - start
    size = run_dir.records_file.stat().st_size
    assert process.returncode == 0
    assert all(told(run_dir, tracker) == size for tracker in trackers)
    return logging, waited, highest - before


def told(run: RunDir, tracker: str) -> int:
    """The bytes of the records that a tracker was told."""
    file = run.mirror_file(tracker)
    return int(json.loads(file.read_text())["offset"]) if file.exists() else 0


def megabytes(pid: int) -> float:
    """What a process and those below it hold of memory."""
    total = 0.0
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for one in [process, *process.children(recursive=True)]:
            total += one.memory_info().rss / 1e6
    return total


def main(records: int, trackers: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ratio = mirror_rate(folder) / loop_rate(folder)
    print(f"the mirror / a loop of log_metric   {ratio:.1f}   (bar 20)")
    with tempfile.TemporaryDirectory() as folder:
        logging, waited, grown = long_run(folder, records, trackers)
    print(f"{records:,} records to {', '.join(trackers)}")
    print(f"logged nine tenths in {logging:.0f} s, told all {waited:.0f} s later")
    print(f"memory grown by {grown:.0f} MB   (bar 100)")


if __name__ == "__main__":
    records, *trackers = sys.argv[1:] or ["1000000"]
    main(int(records), trackers or [*OPTIONS])
