from __future__ import annotations

import csv
import math

import pandas as pd
import pytest

from dlsweep.folders.rundir import Record
from dlsweep.trackers.base import ViewLostError
from dlsweep.trackers.csv import CSVTracker


def tell(run, records, state=None):
    tracker, state = CSVTracker(), {} if state is None else state
    tracker.start(run, {}, state)
    tracker.log(run, records, state)
    return state


def test_a_line_is_one_value_with_all_its_digits(make_run):
    run = make_run(name="0003")
    told = [Record(1, 1700000000.25, {"val/loss": 0.1 + 0.2, "a, b": math.nan})]
    tell(run, told)
    table = pd.read_csv(run.path.parents[1] / "csv" / "0003.csv")
    assert list(table.columns) == ["step", "time", "metric", "value"]
    assert list(table["metric"]) == ["val/loss", "a, b"]
    assert list(table["time"]) == [1700000000.25, 1700000000.25]
    assert table["value"][0] == 0.1 + 0.2
    assert math.isnan(table["value"][1])


def test_a_single_run_keeps_its_table_in_its_own_folder(make_run):
    run = make_run(number=None)
    tell(run, [Record(1, 1.0, {"a": 1.0})])
    assert (run.path / "csv" / "0000.csv").exists()


def test_a_torn_line_is_cut_off(make_run):
    run = make_run()
    state = tell(run, [Record(0, 1.0, {"a": 1.0})])
    file = run.path.parents[1] / "csv" / "0000.csv"
    with file.open("a") as table:
        table.write("1,2.0,a")
    tell(run, [Record(1, 2.0, {"a": 2.0})], state)
    with file.open() as lines:
        assert [row["value"] for row in csv.DictReader(lines)] == ["1.0", "2.0"]


def test_a_shortened_table_is_said_to_be_lost(make_run):
    run = make_run()
    state = tell(run, [Record(0, 1.0, {"a": 1.0})])
    (run.path.parents[1] / "csv" / "0000.csv").write_text("")
    with pytest.raises(ViewLostError, match=f"has 0 bytes. Expected {state['size']} or more"):
        CSVTracker().start(run, {}, state)
