"""What tracking costs, and how fast and how flat the mirror is.

Prints the wall time of 24 trials of the shipped experiment with all four trackers against none
(bar 1.03), the records a second that the mirror tells MLflow on SQLite against a plain loop of
``mlflow.log_metric`` (bar 20), and how much the mirror's memory grows over a long run (bar 100 MB).
Optional arguments: the epochs of a trial, and the records of the long run (a million by default).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from mlflow.tracking import MlflowClient

from dlsweep import mirror
from dlsweep.rundir import Result, RunDir, RunInfo

LOOP, MIRRORED = 500, 20_000
_MIRROR = "from dlsweep import mirror as m; import sys; m.main(sys.argv[1], [], False)"


def time_sweep(tracking: str, epochs: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "dlsweep", f"training.epochs={epochs}", "seed=range(24)"]
        start = time.perf_counter()
        subprocess.run([*command, f"tracking={tracking}", "-m"], cwd=folder, check=True)
        return time.perf_counter() - start


def make_run(folder: str, records: int) -> RunDir:
    options = {
        "_target_": "dlsweep.trackers.mlflow.MLflowTracker",
        "tracking_uri": f"sqlite:///{folder}/mirrored.db",
    }
    info = RunInfo("0", "0", "bench", None, [], [], [], {}, {"mlflow": options}, time.time())
    run = RunDir(Path(folder) / "run")
    run.create(info, "{}\n")
    with run.records_file.open("w") as file:
        for step in range(records):
            file.write(f'{{"step": {step}, "time": {step}.5, "metrics": {{"loss": {step}}}}}\n')
    run.write_result(Result("completed", ended=time.time()))
    return run


def loop_rate(folder: str) -> float:
    client = MlflowClient(f"sqlite:///{folder}/loop.db")
    run_id = client.create_run("0").info.run_id
    client.log_metric(run_id, "loss", 0.0, step=0)
    start = time.perf_counter()
    for step in range(1, LOOP):
        client.log_metric(run_id, "loss", float(step), step=step)
    return (LOOP - 1) / (time.perf_counter() - start)


def mirror_rate(folder: str) -> float:
    run = make_run(folder, MIRRORED)
    start = time.perf_counter()
    assert mirror.sync(run.path) == {"mlflow": MIRRORED}
    return MIRRORED / (time.perf_counter() - start)


def long_run(folder: str, records: int) -> tuple[float, float]:
    """Megabytes that the mirror grew by once a tenth was told, and records a second."""
    run = make_run(folder, records)
    start = time.perf_counter()
    process = psutil.Popen([sys.executable, "-c", _MIRROR, str(run.path)])
    size, told, sizes = run.records_file.stat().st_size, 0.0, []
    while process.poll() is None:
        time.sleep(0.2)
        if run.mirror_file("mlflow").exists():
            told = json.loads(run.mirror_file("mlflow").read_text())["offset"] / size
        if told > 0.1 and process.is_running():
            sizes.append(process.memory_info().rss / 1e6)
    assert process.returncode == 0
    return max(sizes) - sizes[0], records / (time.perf_counter() - start)


def main(epochs: int, records: int) -> None:
    none = time_sweep("none", epochs)
    everything = time_sweep("[mlflow,wandb,tensorboard,csv]", epochs)
    print(f"24 trials with four trackers / none:      {everything / none:8.2f}   (bar 1.03)")
    with tempfile.TemporaryDirectory() as folder:
        ratio = mirror_rate(folder) / loop_rate(folder)
    print(f"the mirror / a loop of log_metric:        {ratio:8.1f}   (bar 20)")
    with tempfile.TemporaryDirectory() as folder:
        grown, rate = long_run(folder, records)
    print(
        f"memory over {records:9,} records:          {grown:8.0f} MB (bar 100), {rate:.0f} a second"
    )


if __name__ == "__main__":
    main(*(map(int, [*sys.argv[1:], *("20", "1000000")[len(sys.argv) - 1 :]])))
