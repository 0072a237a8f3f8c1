"""Progress as lines of JSON: what is in a line, whatever the texts and numbers are."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dlsweep.drive import events
from dlsweep.drive.events import EventView
from dlsweep.drive.progress import Counts
from dlsweep.drive.views import make_view
from dlsweep.errors import ConfigError
from dlsweep.folders.rundir import Record, Result, RunDir

MakeRun = Callable[..., RunDir]


class Pipe:
    """A view, and what its reader gets."""

    def __init__(self) -> None:
        self.reader, writer = os.pipe()
        self.view = EventView(["loss"], Counts(total=3), writer)
        self.open = {self.reader, writer}

    def close(self) -> None:
        for descriptor in self.open:
            os.close(descriptor)

    def read(self) -> list[dict[str, Any]]:
        def refuse(name: str) -> None:
            raise AssertionError(f"{name} is no JSON")

        text = os.read(self.reader, 1 << 16).decode()
        return [json.loads(line, parse_constant=refuse) for line in text.splitlines()]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    opened = Pipe()
    yield opened
    opened.close()


def test_what_json_or_a_terminal_cannot_take_is_replaced(
    pipe: Pipe, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_API_KEY", "hunter2-hunter2")
    run = make_run()
    run.log_file.write_text("the log has \x1b[31m\n")
    pipe.view.started(run, ["name=\udc80é"])
    pipe.view.logged(run, Record(1, 0.0, {"loss": math.nan, "a\x07": -math.inf, "b": 0.5}))
    pipe.view.ended(run, Result("crashed", "key hunter2-hunter2 \x1b]0;", {"loss": math.inf}))
    started, logged, ended = pipe.read()
    assert started["overrides"] == ["name=\\udc80é"]
    assert logged["metrics"] == {"loss": None, "a\\x07": None, "b": 0.5}
    assert logged["time"] == "1970-01-01T00:00:00.000+00:00"
    assert ended["reason"] == "key *** \\x1b]0;"
    assert ended["metrics"] == {"loss": None}
    assert ended["log"] == "the log has \\x1b[31m"
    assert ended["trials"]["failed"] == 1


def test_a_resumed_trial_tells_what_came_before_and_no_record_twice(
    pipe: Pipe, make_run: MakeRun
) -> None:
    run, records = make_run(), [Record(step, step, {"loss": 1.0}) for step in (1, 2)]
    pipe.view.started(run, [])
    pipe.view.logged(run, records[0])
    pipe.view.ended(run, Result("paused"))
    pipe.view.started(run, [], again=True, attempt=2)
    for record in records:
        pipe.view.logged(run, record)
    lines = pipe.read()
    assert [line["step"] for line in lines if line["event"] == "logged"] == [1, 2]
    (resumed,) = (line for line in lines if line["event"] == "trial_resumed")
    assert (resumed["after"], resumed["attempt"]) == ("paused", 2)


def test_a_trial_that_is_not_launched_has_an_event_of_its_own(
    pipe: Pipe, make_run: MakeRun
) -> None:
    pipe.view.rejected(make_run(), ["width=9"], "it needs too much")
    (line,) = pipe.read()
    assert (line["event"], line["trial"]) == ("trial_rejected", 0)
    assert (line["overrides"], line["reason"]) == (["width=9"], "it needs too much")
    assert line["trials"]["rejected"] == 1


def test_only_a_change_of_the_best_or_of_a_pause_is_an_event(pipe: Pipe) -> None:
    view = pipe.view
    for front in ({}, {0: [0.5]}, {0: [0.5]}, {3: [0.25]}):
        view.found_best(front, "")
    for paused in (False, True, True, False):
        view.is_paused = paused
        view.tick()
    view.over("error", error="no")
    view.over("finished")
    lines = pipe.read()
    names = ["best", "best", "sweep_paused", "sweep_resumed", "sweep_ended"]
    assert [line["event"] for line in lines] == names
    assert lines[1]["trials"] == [{"trial": 3, "values": [0.25]}]
    assert (lines[-1]["reason"], lines[-1]["error"]) == ("error", "no")


def test_a_sentence_said_in_a_signal_handler_does_not_break_a_line(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(descriptor: int, line: bytes) -> int:
        monkeypatch.undo()
        count = os.write(descriptor, line[:5])
        pipe.view.say("Stopping")
        return count

    monkeypatch.setattr(events.os, "write", interrupted)
    pipe.view.say("first")
    assert [line["text"] for line in pipe.read()] == ["first", "Stopping"]


def test_a_reader_that_has_gone_ends_the_driver(pipe: Pipe) -> None:
    os.close(pipe.reader)
    pipe.open.remove(pipe.reader)
    with pytest.raises(SystemExit):
        pipe.view.say("nobody reads")


def test_another_way_to_show_progress_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"Received 'yaml'\. Expected auto or json"):
        make_view([], Counts(), "yaml")
