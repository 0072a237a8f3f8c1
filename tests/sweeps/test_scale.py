"""The benchmark of many workers, in small: nothing is lost, and no slot is left empty."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pytest

from dlsweep.results import verify

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
import bench_scale

pytestmark = pytest.mark.slow
WORKERS, TRIALS, STORED = 50, 100, 250


def test_many_simulated_workers_are_kept_busy(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/outputs/quadratic/study.db"
    processor = "+launcher.processor=true"
    found = bench_scale.sweep(tmp_path, url, WORKERS, TRIALS, [processor])
    study = tmp_path / "outputs" / "quadratic"
    assert list(pd.read_csv(study / "trials.csv")["number"]) == list(range(TRIALS))
    logged = sum(len(f.read_text().splitlines()) for f in study.glob("trials/*/records.jsonl"))
    assert found["reports"] == logged
    assert found["utilisation"] > 0.8, "slots were left empty"
    assert found["files"] < WORKERS, "a file for each worker"
    assert verify.main(study, [], repair=False) == 0

    bench_scale.grow(url, STORED)
    (study / "trials" / f"{STORED - 1:04d}").mkdir()
    bench_scale.sweep(tmp_path, url, WORKERS, STORED + 20, [processor])
    table = pd.read_csv(study / "trials.csv")
    assert list(table["number"]) == list(range(STORED + 20))
    assert list(table["state"][:TRIALS]) == list(table["state"][TRIALS : 2 * TRIALS])
