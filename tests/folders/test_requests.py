"""Requests are taken in order; a file that is no request is named once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dlsweep.errors import StudyError
from dlsweep.folders.requests import Requests


def test_requests_come_in_their_order_and_whole(tmp_path: Path) -> None:
    requests, said = Requests(tmp_path / "requests"), []
    assert requests.pending(said.append) == []
    for number in range(3):
        requests.leave("extend", n_trials=number)
    found = requests.pending(said.append)
    assert [one.about for one in found] == [{"n_trials": number} for number in range(3)]
    assert len({one.path.stem for one in found}) == 3
    found[1].path.unlink()
    assert [one.about["n_trials"] for one in requests.pending(said.append)] == [0, 2]
    assert not said


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"kind": []}',
        '{"kind": "kill_trial", "driver": "x", "number": "1"}',
        '{"kind": "stop"}',
        '{"kind": "stop", "driver": "x", "more": 1}',
        "[" * 60_000,
        " " * 70_000,
    ],
)
def test_what_is_no_request_is_named_once(tmp_path: Path, text: str) -> None:
    requests, said = Requests(tmp_path), []
    (tmp_path / "1.json").write_text(text)
    requests.leave("stop", driver="x")
    for _ in range(2):
        assert [one.kind for one in requests.pending(said.append)] == ["stop"]
    (sentence,) = said
    assert str(tmp_path / "1.json") in sentence


def test_a_folder_that_is_a_link_gets_and_gives_no_requests(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    Requests(elsewhere).leave("stop", driver="x")
    (tmp_path / "link").symlink_to(elsewhere)
    requests, said = Requests(tmp_path / "link"), []
    with pytest.raises(StudyError, match="is a link"):
        requests.leave("stop", driver="x")
    assert requests.pending(said.append) == []
    assert len(said) == 1
    assert len(os.listdir(elsewhere)) == 1
