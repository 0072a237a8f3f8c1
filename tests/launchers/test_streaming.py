"""A run folder whose trial is elsewhere: what it adds arrives whole, in order, and once."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dlsweep.errors import StudyError
from dlsweep.folders.attempt import Attempt
from dlsweep.folders.rundir import RunDir
from dlsweep.launchers.streaming import Receiver, Sender, Unpacked, pack
from dlsweep.run.run import Run


class Node:
    """A node that trains a run, and the messages that it has sent."""

    def __init__(self, folder: RunDir) -> None:
        Attempt.begin(folder)
        messages = list(pack(folder))
        self.there = folder
        self.unpacked = Unpacked(RunDir(messages[0]["folder"]))
        for message in messages[1:]:
            self.unpacked.write(message)
        self.room = 1 << 30
        self.sent: list[dict] = []
        self.here = self.unpacked.folder
        self.sender = Sender(self.here, self._send, lambda: self.room > 0)
        self.receiver = Receiver(folder)

    def _send(self, message: dict) -> None:
        self.sent.append(message)
        self.room -= len(message.get("bytes", b""))

    def deliver(self, count: int | None = None) -> None:
        for message in self.sent[:count]:
            getattr(self.receiver, f"on_{message['kind']}")(message)


@pytest.fixture
def node(make_run: Callable[..., RunDir]):
    made: list[Node] = []

    def make(folder: RunDir | None = None) -> Node:
        made.append(Node(folder or make_run()))
        return made[-1]

    yield make
    for one in made:
        one.unpacked.remove()
        assert not one.here.path.exists()


def train(node: Node, steps: range, size: int = 10) -> None:
    with Run.open(node.here.path) as run:
        for step in steps:
            run.log({"val/accuracy": step / 10}, step)
            run.log_image("picture", bytearray_image(), step)
            run.checkpoints.save(step, lambda path: (path / "state").write_bytes(os.urandom(size)))


def bytearray_image():
    import numpy as np

    return np.zeros((2, 2), dtype="uint8")


def files(folder: RunDir) -> dict[str, bytes]:
    """What a trial writes, by relative path."""
    own = ("run.json", "attempt.json", "lock", ".hydra/config.yaml", ".hydra/overrides.yaml")
    found = {
        path.relative_to(folder.path).as_posix(): path.read_bytes()
        for path in folder.path.rglob("*")
        if path.is_file()
    }
    return {name: content for name, content in found.items() if name not in own}


def test_a_node_knows_whose_weights_a_trial_has(node) -> None:
    one = node()
    (one.there.path / "lineage.json").write_text("[]")
    assert (node(one.there).here.path / "lineage.json").read_text() == "[]"


def test_the_driver_has_what_the_trial_has_written(node) -> None:
    one = node()
    train(one, range(1, 4), size=9 << 20)  # several parts
    (one.here.path / "log.txt").write_text("hello\n")
    one.here.set_user_attr("key", 1)
    (one.here.path / "result.json").write_text("{}")
    assert one.sender.send(is_over=True)
    one.deliver()
    assert files(one.there) == files(one.here)


def test_a_trial_that_goes_on_elsewhere_appends(node) -> None:
    one = node()
    train(one, range(1, 3))
    (one.here.path / "log.txt").write_text("one\n")
    (one.here.path / "system.jsonl").write_text('{"step": 0, "time": 1, "metrics": {}}\n')
    one.sender.send(is_over=False)
    one.deliver()
    with one.there.records_file.open("a") as file:
        file.write('{"step": 3, "ti')  # torn, as when the node was lost
    two = node(one.there)
    train(two, range(3, 5))
    with (two.here.path / "log.txt").open("a") as file:
        file.write("two\n")
    two.sender.send(is_over=True)
    two.deliver()
    assert two.there.log_file.read_text() == "one\ntwo\n"
    assert two.there.samples_file.read_bytes() == one.here.samples_file.read_bytes()
    values = [record.step for record, _ in two.there.records() if record.metrics]
    assert values == [1, 2, 3, 4]
    assert two.there.records_file.read_bytes() == two.here.records_file.read_bytes()


def test_records_come_before_their_checkpoint_and_after_their_images(node) -> None:
    one = node()
    train(one, range(1, 4))
    one.sender.send(is_over=False)
    seen: set[str] = set()
    for message in one.sent:
        getattr(one.receiver, f"on_{message['kind']}")(message)
        seen.add(message.get("name", ""))
        for record, _ in one.there.records():
            for about in record.media.values():
                assert (one.there.path / about["file"]).exists()
        for manifest in one.there.checkpoints.glob("step-*/manifest.json"):
            wanted = json.loads(manifest.read_text())["records"]
            assert one.there.records_file.stat().st_size >= wanted
    assert "step-00000003" in seen


def test_messages_that_come_twice_change_nothing(node) -> None:
    one = node()
    train(one, range(1, 4))
    one.sender.send(is_over=False)
    one.deliver()
    before = files(one.there)
    sizes = []
    for message in one.sent:  # a driver was killed before it had acknowledged any
        getattr(one.receiver, f"on_{message['kind']}")(message)
        sizes.append(one.there.records_file.stat().st_size)
    assert files(one.there) == before
    assert len(set(sizes)) == 1, "records disappeared for a moment"
    one.receiver.on_checkpoint(
        one.sent[-1]
        if one.sent[-1]["kind"] == "checkpoint"
        else next(message for message in one.sent if message["kind"] == "checkpoint")
    )
    assert files(one.there) == before


def test_no_more_is_held_than_there_is_room_for(node) -> None:
    one = node()
    train(one, range(1, 3), size=20 << 20)
    one.room = 1 << 20
    assert not one.sender.send(is_over=True)
    assert sum(len(message.get("bytes", b"")) for message in one.sent) < 6 << 20
    train_more = len(one.sent)
    while not one.sender.send(is_over=True):
        one.room = 1 << 20
    assert len(one.sent) > train_more
    one.deliver()
    assert files(one.there) == files(one.here)


def test_a_checkpoint_that_has_not_arrived_is_none(node) -> None:
    one = node()
    train(one, range(1, 3))
    one.sender.send(is_over=False)
    last = max(n for n, message in enumerate(one.sent) if message["kind"] == "checkpoint")
    one.deliver(last)
    assert sorted(path.name for path in one.there.checkpoints.glob("step-*")) == ["step-00000001"]
    two = node(one.there)
    two.receiver.clear()
    assert sorted(path.name for path in one.there.checkpoints.iterdir()) == ["step-00000001"]
    with Run.open(two.here.path) as run:
        assert run.checkpoints.latest().step == 1


@pytest.mark.parametrize(
    "name",
    [
        "../../x",
        "run.json",
        "attempt.json",
        "lock",
        "media/..",
        "checkpoints/step-1/../../x",
        "checkpoints/../x",
        ".hydra/config.yaml",
        "checkpoints/step-1/a/b",
        "/etc/x",
    ],
)
@pytest.mark.parametrize("kind", ["bytes", "file"])
def test_a_node_writes_only_what_a_trial_writes(node, name: str, kind: str) -> None:
    one = node()
    with pytest.raises(StudyError, match="which no trial writes"):
        getattr(one.receiver, f"on_{kind}")({"name": name, "offset": 0, "bytes": b"x"})


def test_a_node_does_not_write_through_a_link(node, tmp_path: Path) -> None:
    one = node()
    (one.there.path / "log.txt").symlink_to(tmp_path / "other")
    with pytest.raises(OSError, match="symbolic links"):
        one.receiver.on_bytes({"name": "log.txt", "offset": 0, "bytes": b"x"})
    assert not (tmp_path / "other").exists()
