"""What a person sees: plain lines in a file, a table on a terminal."""

from __future__ import annotations

import io
import os
import pty
import re
from collections.abc import Callable

import pytest
from rich.console import Console

from dlsweep.drive import progress
from dlsweep.drive.progress import Counts, LiveView, View, brief, sparkline
from dlsweep.drive.views import make_view
from dlsweep.folders.rundir import Record, Result, RunDir

MakeRun = Callable[..., RunDir]


def plain(counts: Counts) -> View:
    """The view of a process whose output is captured."""
    view = make_view(["loss"], counts)
    assert type(view) is View
    return view


def test_a_pipe_gets_one_plain_line_an_event(
    make_run: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    run, view = make_run(), plain(Counts(total=2))
    with view:
        view.started(run, ["x=[1,2]", "opt=adam"])
        view.logged(run, Record(1, 0.0, {"loss": 0.5}))
        view.tick()
        view.ended(run, Result("completed", metrics={"loss": 0.5, "other": 1.0}))
        view.started(run, ["x=[1,2]"], again=True)
        view.ended(run, Result("pruned"))
    shown = capsys.readouterr().out
    times = re.compile(r"^\d\d:\d\d:\d\d |(?<=in )\d\.\d(?= s)", re.MULTILINE)
    assert times.sub("", shown).splitlines() == [
        "0000 started  x=[1,2] opt=adam",
        "[1/2] 0000 completed in  s  loss=0.5",
        "0000 goes on  x=[1,2]",
        "[2/2] 0000 pruned in  s",
    ]
    assert "\x1b" not in shown
    assert not view.running


def test_sentences_come_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    view = plain(Counts())
    view.say("[bold]" + "long " * 100)
    view.say("")
    view.dashboards["mlflow"] = "mlflow ui --port 5000"
    view.print_dashboards()
    said, dashboard = capsys.readouterr().out.splitlines()
    assert said == "[bold]" + "long " * 100
    assert dashboard.split(maxsplit=1) == ["mlflow:", "mlflow ui --port 5000"]


def test_an_interrupted_run_does_not_count_as_over(make_run: MakeRun) -> None:
    run, view = make_run(), plain(Counts(total=3))
    for status in ("completed", "pruned", "crashed", "killed", "interrupted"):
        view.started(run, [])
        view.ended(run, Result(status))
    counts = view.counts
    assert (counts.completed, counts.pruned, counts.failed, counts.done) == (1, 1, 2, 4)


def test_a_failure_shows_its_reason_and_the_logs_end(
    make_run: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    run, view = make_run(), plain(Counts(total=3))
    run.log_file.write_text("".join(f"line {n}\n" for n in range(40)) + "ValueError: [red]\n")
    for reason in ("killed by SIGKILL", "ValueError: [red]"):
        view.started(run, [])
        view.ended(run, Result("crashed", reason))
    shown = capsys.readouterr().out
    assert "  killed by SIGKILL\n  | line 26\n" in shown
    assert shown.count("  | ValueError: [red]\n") == 2
    assert shown.count("ValueError: [red]") == 2, "what the log tells is not told twice"
    assert "line 25" not in shown


def drawing(counts: Counts, width: int = 160) -> tuple[LiveView, io.StringIO]:
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=True, markup=False, highlight=False)
    return LiveView(["loss"], counts, console), file


def test_a_terminal_gets_a_table_of_what_runs(make_run: MakeRun) -> None:
    run = make_run()
    view, file = drawing(Counts(total=4, pruned=1, slots=2))
    view.best = "0.1 (trial 0000)"
    with view:
        view.started(run, ["x=[1,2]"])
        for step, loss in enumerate([3.0, 2.0, 1.25]):
            view.logged(run, Record(step, 0.0, {"loss": loss, "other": 7.0}))
        view.tick()
    shown = file.getvalue()
    assert "\x1b[" in shown
    for part in ("1/4 trials", "1/2 slots", "1 pruned", "best 0.1 (trial 0000)", "1.25", "x=[1,2]"):
        assert part in shown
    assert sparkline([3.0, 2.0, 1.25]) in shown
    assert "started" not in shown, "starts are seen in the table"


def test_a_terminal_keeps_the_line_of_what_ended(make_run: MakeRun) -> None:
    run = make_run()
    view, file = drawing(Counts(total=4))
    with view:
        view.started(run, [])
        view.ended(run, Result("completed", metrics={"loss": 0.5}))
    assert "[1/4] 0000 completed" in file.getvalue()


def test_the_view_fits_where_the_output_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress.sys, "stdout", io.StringIO())
    assert type(make_view(["loss"], Counts())) is View
    monkeypatch.setenv("TERM", "xterm")
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(progress.sys, "stdout", terminal)
        assert type(make_view(["loss"], Counts())) is LiveView
    os.close(ours)


def test_the_time_left_follows_the_pace_of_this_call(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = Counts(total=10, completed=4, began=100.0, begun_with=4)
    monkeypatch.setattr(progress.time, "monotonic", lambda: 130.0)
    assert counts.time_left() is None
    counts.pruned = 3
    assert counts.time_left() == 30.0
    assert Counts(total=None, completed=3).time_left() is None


@pytest.mark.parametrize(
    ("values", "bars"),
    [
        ([], ""),
        ([1.0], "▁"),
        ([0.0, 7.0], "▁█"),
        ([0.0, float("nan"), 1.0], "▁█"),
        ([0.0, float("inf"), 1.0], "▁█"),
        (list(range(99)), sparkline(list(range(87, 99)))),
    ],
)
def test_a_trend_is_a_row_of_bars(values: list[float], bars: str) -> None:
    assert sparkline(values) == bars


@pytest.mark.parametrize(
    ("override", "short"),
    [
        ("training.optimizer.lr=0.00123456789", "lr=0.001235"),
        ("training/optimizer=sgd", "optimizer=sgd"),
        ("data.folder=a=b", "folder=a=b"),
    ],
)
def test_an_override_is_shown_short(override: str, short: str) -> None:
    assert brief(override) == short


def test_the_best_and_the_time_left_fit_into_80_columns() -> None:
    counts = Counts(total=240, completed=19, pruned=101, failed=3, slots=16)
    counts.began -= 3600
    view, file = drawing(counts, width=80)
    view.best = "0.95512 (trial 0104)"
    view.console.print(view._headline())
    (line,) = file.getvalue().splitlines()
    for part in ("123/240 trials", "best 0.95512 (trial 0104)", "min", "left"):
        assert part in line


@pytest.mark.parametrize(("total", "name", "other"), [(1, "run", "trial"), (2, "trial", "run")])
def test_a_single_run_is_called_a_run(total: int, name: str, other: str) -> None:
    view, file = drawing(Counts(total=total))
    view.console.print(view.drawing())
    words = re.findall(r"[a-z]+", re.sub(r"\x1b\[[\d;]*m", " ", file.getvalue()))
    assert name in words
    assert other not in words
