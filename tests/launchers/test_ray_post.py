"""Messages through a Ray actor, whose threads may run its calls in any order."""

from __future__ import annotations

import threading

from dlsweep.launchers.ray_actor import ActorPost


def test_messages_keep_their_order() -> None:
    post = ActorPost("driver")
    post.put("driver", 2, {"kind": "kill"})
    assert post.receive(0) == []
    post.put("driver", 3, {"kind": "end"})
    post.put("driver", 1, {"kind": "run"})
    assert [message["kind"] for message in post.receive(0)] == ["run", "kill", "end"]


def test_what_a_replaced_driver_says_is_dropped() -> None:
    post = ActorPost("one")
    post.put("one", 2, {"kind": "kill"})
    post.greet("two")
    post.put("one", 1, {"kind": "run"})
    post.put("two", 1, {"kind": "hello"})
    assert [message["kind"] for message in post.receive(0)] == ["hello"]
    post.send({"kind": "state"})
    assert post.take("one", 0) == []
    assert post.take("two", 0) == [(1, {"kind": "state"})]


def test_what_was_not_acknowledged_is_sent_again() -> None:
    post = ActorPost("one")
    for code in range(3):
        post.send({"code": code})
    assert [number for number, _ in post.take("one", 0)] == [1, 2, 3]
    post.greet("two")
    assert [number for number, _ in post.take("two", 0)] == [1, 2, 3]
    assert [number for number, _ in post.take("two", 2)] == [3]
    assert not post.is_empty


def test_files_wait_for_room_and_come_in_portions() -> None:
    post = ActorPost("one")
    assert post.has_room
    for _ in range(9):
        post.send({"bytes": bytes(1 << 22)})
    assert not post.has_room
    assert len(post.take("one", 0)) == 4
    assert len(post.take("one", 8)) == 1
    assert post.has_room


def test_a_message_wakes_who_waits() -> None:
    post = ActorPost("one")
    threading.Timer(0.1, post.put, ("one", 1, {"kind": "stop"})).start()
    assert post.receive(60) == [{"kind": "stop"}]
    threading.Timer(0.1, post.send, ({"kind": "ended"},)).start()
    assert len(post.take("one", 0)) == 1
