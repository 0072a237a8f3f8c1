"""The processes that train one run together, and the one that started them.

The process of a trial forks a rank for each GPU and watches them: the first that fails, or dies,
ends them all. The first rank, 0, does what a trial of one process does; whatever depends on a
clock, a file or the driver it decides for all, and the others wait for its word. They write
nothing.
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

#: Of Linux: the signal that a process gets when the one that forked it dies.
_PR_SET_PDEATHSIG = 1
#: How often, in seconds, the ranks are looked after, and how long a rank's error may be the
#: consequence of another's death.
_LOOK_EVERY, _CONSEQUENCE = 0.1, 0.5
_FORWARDED = (signal.SIGTERM, signal.SIGUSR1)


class Ranks:
    """The processes of a training, as one of them sees them.

    Args:
        rank: Which of them this is; 0 is the first.
        size: How many there are.
        wires: Of the first, one to each other; of another, the one to the first.
        folder: Of all of them, empty at the start and gone at the end.
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
        """What the first rank decides; every rank must ask, in the same order.

        Args:
            decide: Called on the first rank alone; gives a plain JSON value.
        """
        if self.rank:
            told: T = json.loads(self._wires[0].recv_bytes())
            return told
        decided = decide()
        for wire in self._wires:
            wire.send_bytes(json.dumps(decided).encode())
        return decided


ALONE = Ranks()


class Processes:
    """Forks the ranks of a training; a context that ends them all.

    Only a process that has computed nothing yet can be forked safely.

    Args:
        size: How many.
        work: What each does; returns how it ended, as a plain JSON value.
        folder: Where they meet; it is removed at the end, and at the start if a kill has left it.
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
        """Waits for the first rank, or for one that fails, and returns how that ended.

        A rank that a signal kills takes this process with it, by the same signal.
        """
        while True:
            ready = wait(list(self._results.values()), _LOOK_EVERY)
            for rank, result in list(self._results.items()):
                if result in ready and (found := _received(result)) is not None:
                    if is_failure(found):
                        self._die_with_the_dead(_CONSEQUENCE)
                    if rank == 0 or is_failure(found):
                        return found
                    del self._results[rank]
            self._die_with_the_dead()

    def _forward(self, number: int, _: object) -> None:
        """Has the first rank, which decides for all, answer a signal."""
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

    def _die_with_the_dead(self, patience: float = 0.0) -> None:
        """Ends this process as a rank has ended that has not said how; waits so long for one."""
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
    """What a rank has said; nothing if it has died."""
    with suppress(EOFError, OSError):
        return json.loads(result.recv_bytes())


def _become(
    ranks: Ranks, work: Callable[[Ranks], Any], result: Connection, parent: int
) -> NoReturn:
    """Does a rank's work in a process just forked, and waits to be ended."""
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
    """Has the kernel kill this process when its parent dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
