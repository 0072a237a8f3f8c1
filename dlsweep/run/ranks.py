"""Ranks: the processes that train one run together.

A trial's process forks a rank for each GPU and watches them. If one fails or dies, all end. Rank 0
does what a trial of one process does. It decides whatever depends on a clock, a file or the driver,
and the other ranks wait for its decision. They write nothing.

On several nodes, each node has such a process with as many ranks. That of the first node watches
all; another one tells it how its own ranks end, and ends with it.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import Any, NoReturn, Self, TypeVar

from dlsweep.machine.devices import THREADS_VARIABLE
from dlsweep.run.nodes import Links, gather, join, node_number

T = TypeVar("T")

#: Linux's prctl option: the signal that a process gets when its parent dies.
_PR_SET_PDEATHSIG = 1
#: How often the ranks are polled, and how long another rank's death may explain an error; seconds.
_LOOK_EVERY, _CONSEQUENCE = 0.1, 0.5
_FORWARDED = (signal.SIGTERM, signal.SIGUSR1)


class Ranks:
    """The processes of a run, from the view of one of them.

    Args:
        rank: The rank of this process; 0 is the first.
        size: The number of processes.
        wires: Connections: of rank 0, one to each other rank; of the others, the one to rank 0.
        folder: A folder that all of them share; it is removed at the end.
        local_size: The number of processes on each node; None for all of them on one.
        interface: The network interface by which they reach each other.
    """

    def __init__(
        self,
        rank: int = 0,
        size: int = 1,
        wires: tuple[Connection, ...] = (),
        folder: Path | None = None,
        local_size: int | None = None,
        interface: str = "lo",
    ) -> None:
        self.rank = rank
        self.size = size
        self.folder = folder
        self.local_size = local_size or size
        self.interface = interface
        self._wires = wires

    @property
    def local_rank(self) -> int:
        """The rank of this process among those of its node."""
        return self.rank % self.local_size

    def agree(self, decide: Callable[[], T]) -> T:
        """Returns rank 0's decision. Every rank must call this, in the same order.

        Args:
            decide: Called on rank 0 only; returns a plain JSON value.
        """
        if self.rank:
            decision: T = json.loads(self._wires[0].recv_bytes())
            return decision
        decided = decide()
        for wire in self._wires:
            wire.send_bytes(json.dumps(decided).encode())
        return decided


ALONE = Ranks()


class _Forks:
    """Forks the ranks of a run on this node; a context manager that ends them.

    Only a process that has not computed anything yet can be forked safely.

    Args:
        size: The number of ranks on all nodes.
        folder: A folder that all of them share.
        nodes: The number of nodes.
    """

    _links: Links

    def __init__(self, size: int, folder: Path, nodes: int) -> None:
        self._size = size
        self._folder = folder
        self._local_size = size // nodes
        self._results: dict[int, Connection] = {}
        self._alive: dict[int, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for pid in self._alive.values():
            os.kill(pid, signal.SIGKILL)
        for pid in self._alive.values():
            os.waitpid(pid, 0)

    def _fork(self, rank: int, wires: tuple[Connection, ...], work: Callable[[Ranks], Any]) -> None:
        ranks = Ranks(
            rank, self._size, wires, self._folder, self._local_size, self._links.interface
        )
        ours, theirs = Pipe(duplex=False)
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            _become(ranks, work, theirs, parent)
        theirs.close()
        self._results[rank] = ours
        self._alive[rank] = pid

    def _ended(self) -> Iterator[tuple[int, int]]:
        """Yields the ranks here that have ended by themselves, with their exit codes."""
        for rank, pid in list(self._alive.items()):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                del self._alive[rank]
                yield rank, os.waitstatus_to_exitcode(status)


class Processes(_Forks):
    """The ranks of a run, from its first node; a context manager that ends them all.

    Args:
        size: The number of ranks.
        work: Called in each rank; returns its outcome as a plain JSON value.
        folder: A folder that they share; it is removed at the end, and before the start if a killed
            run left it.
        nodes: The number of nodes that they are on.
        attempt: The number of the run's attempt.

    Raises:
        DeviceError: If a node is missing.
    """

    def __init__(
        self,
        size: int,
        work: Callable[[Ranks], Any],
        folder: Path,
        nodes: int = 1,
        attempt: int = 0,
    ) -> None:
        super().__init__(size, folder, nodes)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        self._links = gather(folder, attempt, nodes, self._local_size) if nodes > 1 else Links()
        pipes = [Pipe() for _ in range(self._local_size - 1)]
        self._fork(0, (*(first for first, _ in pipes), *self._links.ranks), work)
        for rank, (_, second) in enumerate(pipes, start=1):
            self._fork(rank, (second,), work)
        for number in _FORWARDED:
            signal.signal(number, self._forward)

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        shutil.rmtree(self._folder, ignore_errors=True)

    def outcome(self, is_failure: Callable[[Any], bool]) -> Any:
        """Waits for rank 0, or for a rank that fails, and returns its outcome.

        If a signal kills a rank, this process ends by the same signal.
        """
        while True:
            ready = wait([*self._results.values(), *self._links.nodes.values()], _LOOK_EVERY)
            for rank, result in list(self._results.items()):
                if result in ready and (found := _received(result)) is not None:
                    if is_failure(found):
                        self._end_like_failed_rank(_CONSEQUENCE)
                    if rank == 0 or is_failure(found):
                        return found
                    del self._results[rank]
            if (failed := self._heard()) is not None:
                self._end_like_failed_rank(_CONSEQUENCE)
                return failed
            self._end_like_failed_rank()

    def _heard(self) -> Any:
        """Returns the outcome of a rank elsewhere that has failed; dies like one that has died."""
        for node, link in self._links.nodes.items():
            if not link.poll():
                continue
            said = _received(link)
            if said is None:
                print(f"Node {node} of the trial is gone.", file=sys.stderr)
                self._die(node * self._local_size, -signal.SIGKILL)
            if "died" in said:
                self._die(*said["died"])
            return said["failed"]
        return None

    def _forward(self, number: int, _: object) -> None:
        """Forwards a signal to rank 0, which decides for all."""
        if pid := self._alive.get(0):
            os.kill(pid, number)

    def _end_like_failed_rank(self, patience: float = 0.0) -> None:
        """Ends this process as a rank ended that sent no outcome; waits that long for one."""
        until = time.monotonic() + patience
        while True:
            for rank, code in self._ended():
                self._die(rank, code)
            if patience:
                self._heard()
            if time.monotonic() >= until:
                return
            time.sleep(_LOOK_EVERY / 10)

    def _die(self, rank: int, code: int) -> NoReturn:
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        print(f"Process {rank + 1} of the {self._size} that train together {how}", file=sys.stderr)
        self.__exit__()
        sys.stdout.flush()
        sys.stderr.flush()
        if code < 0:
            with suppress(OSError):  # SIGKILL has no handler
                signal.signal(-code, signal.SIG_DFL)
            os.kill(os.getpid(), -code)
        os._exit(code or 1)


class HelpingProcesses(_Forks):
    """The ranks of a run on another node than its first; a context manager that ends them.

    Args:
        size: The number of ranks on all nodes.
        work: Called in each rank here.
        folder: The folder that all of them share.
        nodes: The number of nodes.
        attempt: The number of the run's attempt.

    Raises:
        DeviceError: If the first node does not listen.
    """

    def __init__(
        self, size: int, work: Callable[[Ranks], Any], folder: Path, nodes: int, attempt: int
    ) -> None:
        super().__init__(size, folder, nodes)
        for number in _FORWARDED:  # the first node decides
            signal.signal(number, signal.SIG_IGN)
        node = node_number()
        self._links = join(folder, attempt, node, self._local_size)
        for place, wire in enumerate(self._links.ranks):
            self._fork(node * self._local_size + place, (wire,), work)

    def serve(self, is_failure: Callable[[Any], bool]) -> None:
        """Tells the first node which ranks fail or die, until it ends them."""
        first = self._links.nodes[0]
        while True:
            ready = wait([*self._results.values(), first], _LOOK_EVERY)
            if first in ready:
                return  # it says nothing, so it has hung up
            for rank, result in list(self._results.items()):
                if result in ready:
                    del self._results[rank]
                    if (found := _received(result)) is not None and is_failure(found):
                        _send(first, {"failed": found})
            for rank, code in self._ended():
                _send(first, {"died": [rank, code]})


def _send(link: Connection, said: dict[str, Any]) -> None:
    with suppress(OSError):  # the next look sees that it has hung up
        link.send_bytes(json.dumps(said).encode())


def _received(result: Connection) -> Any:
    """Receives a rank's outcome; None if it has died."""
    with suppress(EOFError, OSError):
        return json.loads(result.recv_bytes())


def _become(
    ranks: Ranks, work: Callable[[Ranks], Any], result: Connection, parent: int
) -> NoReturn:
    """Does a rank's work in a newly forked process, then waits to be killed."""
    try:
        _end_with(parent)
        threads = int(os.environ.get(THREADS_VARIABLE, ranks.local_size))
        os.environ[THREADS_VARIABLE] = str(max(1, threads // ranks.local_size))
        if ranks.rank:
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - what the first prints is enough
            for number in _FORWARDED:
                signal.signal(number, signal.SIG_IGN)
        outcome = work(ranks)
        sys.stdout.flush()
        sys.stderr.flush()
        result.send_bytes(json.dumps(outcome).encode())
        while True:
            signal.pause()
    finally:
        os._exit(1)


def _end_with(parent: int) -> None:
    """Asks the kernel to kill this process when its parent dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
