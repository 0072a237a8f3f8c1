"""Ranks: the processes that train one run together.

A trial's process forks a rank for each GPU and watches them. If one fails or dies, all end. Rank 0
does what a trial of one process does. It decides whatever depends on a clock, a file or the driver,
and the other ranks wait for its decision. They write nothing.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from dlsweep.machine.devices import THREADS_VARIABLE

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
    """

    def __init__(
        self,
        rank: int = 0,
        size: int = 1,
        wires: tuple[Connection, ...] = (),
        folder: Path | None = None,
    ) -> None:
        self.rank = rank
        self.size = size
        self.folder = folder
        self._wires = wires

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


class Processes:
    """Forks the ranks of a run; a context manager that ends them all.

    Only a process that has not computed anything yet can be forked safely.

    Args:
        size: The number of ranks.
        work: Called in each rank; returns its outcome as a plain JSON value.
        folder: A folder that they share; it is removed at the end, and before the start if a killed
            run left it.
    """

    def __init__(self, size: int, work: Callable[[Ranks], Any], folder: Path) -> None:
        self._size = size
        self._results: dict[int, Connection] = {}
        self._alive: dict[int, int] = {}
        self._folder = folder
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        pipes = [Pipe() for _ in range(size - 1)]
        for rank in range(size):
            wires = (pipes[rank - 1][1],) if rank else tuple(first for first, _ in pipes)
            self._fork(Ranks(rank, size, wires, folder), work)
        for number in _FORWARDED:
            signal.signal(number, self._forward)

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        for pid in self._alive.values():
            os.kill(pid, signal.SIGKILL)
        for pid in self._alive.values():
            os.waitpid(pid, 0)
        shutil.rmtree(self._folder, ignore_errors=True)

    def outcome(self, is_failure: Callable[[Any], bool]) -> Any:
        """Waits for rank 0, or for a rank that fails, and returns its outcome.

        If a signal kills a rank, this process ends by the same signal.
        """
        while True:
            ready = wait(list(self._results.values()), _LOOK_EVERY)
            for rank, result in list(self._results.items()):
                if result in ready and (found := _received(result)) is not None:
                    if is_failure(found):
                        self._end_like_failed_rank(_CONSEQUENCE)
                    if rank == 0 or is_failure(found):
                        return found
                    del self._results[rank]
            self._end_like_failed_rank()

    def _forward(self, number: int, _: object) -> None:
        """Forwards a signal to rank 0, which decides for all."""
        if pid := self._alive.get(0):
            os.kill(pid, number)

    def _fork(self, ranks: Ranks, work: Callable[[Ranks], Any]) -> None:
        ours, theirs = Pipe(duplex=False)
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            _become(ranks, work, theirs, parent)
        theirs.close()
        self._results[ranks.rank] = ours
        self._alive[ranks.rank] = pid

    def _end_like_failed_rank(self, patience: float = 0.0) -> None:
        """Ends this process as a rank ended that sent no outcome; waits that long for one."""
        until = time.monotonic() + patience
        while True:
            for rank, pid in list(self._alive.items()):
                found, status = os.waitpid(pid, os.WNOHANG)
                if found:
                    del self._alive[rank]
                    self._die(rank, os.waitstatus_to_exitcode(status))
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
        threads = int(os.environ.get(THREADS_VARIABLE, ranks.size))
        os.environ[THREADS_VARIABLE] = str(max(1, threads // ranks.size))
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
