"""Messages between a worker and its driver, through files."""

from __future__ import annotations

import os
import time
from pathlib import Path

from dlsweep.launchers.mailbox import Inbox, MailPost, Outbox


def wait_for(inbox: Inbox) -> list[dict]:
    until = time.monotonic() + 30
    while not (found := inbox.receive()):
        assert time.monotonic() < until
        time.sleep(0.02)
    return found


def test_messages_arrive_once_and_in_order(tmp_path: Path) -> None:
    inbox, outbox = Inbox(tmp_path, "driver"), Outbox(tmp_path, "driver")
    assert inbox.receive() == []
    for number in range(3):
        outbox.send({"kind": "stop", "number": number})
    assert [message["number"] for message in inbox.receive()] == [0, 1, 2]
    assert inbox.receive() == []


def test_half_a_line_waits_for_its_other_half(tmp_path: Path) -> None:
    inbox, outbox = Inbox(tmp_path, "worker"), Outbox(tmp_path, "worker")
    with (tmp_path / "worker-1.jsonl").open("ab", buffering=0) as file:
        file.write(b'{"kind": "rea')
        assert inbox.receive() == []
        file.write(b'dy"}\n{"ki')
        assert inbox.receive() == [{"kind": "ready"}]
        file.write(b'nd": "notice"}\n')
    outbox.send({"kind": "ended"})
    assert inbox.receive() == [{"kind": "notice"}, {"kind": "ended"}]


def test_a_successor_is_followed_after_the_last_word_of_its_predecessor(tmp_path: Path) -> None:
    inbox, first = Inbox(tmp_path, "worker"), Outbox(tmp_path, "worker")
    first.send({"from": 1})
    second = Outbox(tmp_path, "worker")
    second.send({"from": 2})
    assert wait_for(inbox) == [{"from": 1}]
    assert wait_for(inbox) == [{"from": 2}]
    first.send({"from": "one that was cut off"})
    second.send({"from": 2})
    assert wait_for(inbox) == [{"from": 2}]


def test_a_new_worker_skips_what_an_earlier_one_was_told(tmp_path: Path) -> None:
    driver = Outbox(tmp_path, "driver")
    driver.send({"kind": "run", "to": 1})
    post = MailPost(tmp_path)
    driver.send({"kind": "hello", "to": 1})
    assert post.receive(1) == [{"kind": "hello", "to": 1}]
    post = MailPost(tmp_path)
    driver.send({"kind": "kill", "to": 1})
    assert post.receive(1) == []
    driver.send({"kind": "end", "to": 1})
    assert post.receive(1) == [{"kind": "end", "to": 1}], "whoever it is"


def test_a_worker_ends_when_another_one_is_told_something(tmp_path: Path) -> None:
    driver, first, second = Outbox(tmp_path, "driver"), MailPost(tmp_path), MailPost(tmp_path)
    driver.send({"kind": "run", "to": 2})
    assert first.receive(1) == [{"kind": "end"}]
    assert second.receive(1) == [{"kind": "run", "to": 2}]


def test_silence_is_broken_by_a_beat(tmp_path: Path) -> None:
    inbox, outbox = Inbox(tmp_path, "driver"), Outbox(tmp_path, "driver")
    inbox.receive()
    time.sleep(1.1)
    inbox.receive()
    before = inbox.silence
    outbox.beat()
    inbox.receive()
    assert inbox.silence < before
    assert os.stat(tmp_path / "driver-1.jsonl").st_size == 0
