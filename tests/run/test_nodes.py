"""The nodes of a trial find each other, and nobody else joins them."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from dlsweep.errors import DeviceError
from dlsweep.run import nodes
from dlsweep.run.nodes import Links, gather, join


@pytest.fixture
def first(tmp_path: Path) -> Iterator[Future[Links]]:
    """The first of two nodes with two ranks each, while it waits for the other."""
    with ThreadPoolExecutor() as pool:
        future = pool.submit(gather, tmp_path, attempt=3, count=2, local_size=2)
        told_by(tmp_path)
        yield future
        if not future.done():
            join(tmp_path, 3, 1, 2)


def told_by(folder: Path) -> dict:
    until = time.monotonic() + 10
    while not (folder / "nodes.json").exists():
        assert time.monotonic() < until
        time.sleep(0.01)
    return json.loads((folder / "nodes.json").read_text())


def test_ranks_of_another_node_reach_rank_0(first: Future[Links], tmp_path: Path) -> None:
    theirs = join(tmp_path, 3, 1, 2)
    ours = first.result(10)
    assert list(ours.nodes) == [1]
    assert len(ours.ranks) == len(theirs.ranks) == 2
    ours.nodes[1].send_bytes(b"to the node")
    ours.ranks[1].send_bytes(b"to its second rank")
    assert theirs.nodes[0].recv_bytes() == b"to the node"
    assert theirs.ranks[1].recv_bytes() == b"to its second rank"
    assert ours.interface in {name for _, name in socket.if_nameindex()}
    assert not (tmp_path / "nodes.json").exists()


def test_who_does_not_know_the_key_is_refused(first: Future[Links], tmp_path: Path, capsys) -> None:
    told = told_by(tmp_path)
    with socket.create_connection((told["host"], told["port"])) as stranger:
        stranger.sendall(bytes(64))
        stranger.settimeout(10)
        while stranger.recv(4096):  # until the other side hangs up
            pass
    with socket.create_connection((told["host"], told["port"])) as echo:
        asked = echo.recv(32)  # sends back what it gets, as if it were its own proof
        echo.sendall(asked)
        echo.sendall(echo.recv(32))
        assert not echo.recv(1)
    join(tmp_path, 3, 1, 2)
    assert len(first.result(10).ranks) == 2
    assert capsys.readouterr().err.count("it does not know the key of this run") == 2


def test_who_says_nothing_is_not_waited_for(
    first: Future[Links], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setattr(nodes, "_PROOF", 0.2)
    told = told_by(tmp_path)
    with socket.create_connection((told["host"], told["port"])):
        deadline = threading.Timer(10, first.cancel)
        deadline.start()
        join(tmp_path, 3, 1, 2)
        deadline.cancel()
    assert len(first.result(10).ranks) == 2
    assert "timed out" in capsys.readouterr().err


def test_an_earlier_attempt_is_not_joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "_PATIENCE", 0.3)
    with ThreadPoolExecutor() as pool:
        first = pool.submit(gather, tmp_path, 2, 2, 1)
        told_by(tmp_path)
        with pytest.raises(DeviceError, match="Node 1 of the trial has found no first node"):
            join(tmp_path, 3, 1, 1)
        with pytest.raises(DeviceError, match=r"only the nodes \[0\] of the trial are connected"):
            first.result()


def test_nodes_with_other_numbers_of_gpus(
    first: Future[Links], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes, "_PATIENCE", 0.3)
    with pytest.raises(DeviceError, match="Node 1 of the trial has found no first node"):
        join(tmp_path, 3, 1, 1)
    with pytest.raises(DeviceError, match=r"starts 1 processes, and \S+ 2. Expected nodes with"):
        first.result(10)
