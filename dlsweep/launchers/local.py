"""The local launcher: runs each trial on this machine, in a process and a slot of its own."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from dlsweep.errors import ConfigError
from dlsweep.folders.rundir import LOST, RunDir
from dlsweep.launchers.base import Job, Judge, Launcher, environment_of
from dlsweep.launchers.packing import Packing
from dlsweep.launchers.snapshot import CODE_VARIABLE, in_snapshot
from dlsweep.machine.devices import Share, cut_slots, shared
from dlsweep.machine.imports import require_package
from dlsweep.machine.memory import memory_limits
from dlsweep.run.channel import DriverEnd

#: Environment variables of the warm parent, so that imports start no thread and touch no GPU.
_IMPORT_ONLY = {
    "JE_ARROW_MALLOC_CONF": "background_thread:false",  # of pyarrow, which pandas imports
    "OPENBLAS_NUM_THREADS": "1",
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
    "TF_CPP_MIN_LOG_LEVEL": "2",
}
#: Make glibc keep up to 1 GiB of freed memory, and allocate blocks of up to 32 MiB from it.
#: Without them, each training step returns its gradients to the kernel and faults them in again,
#: which takes up to a third of a trial's time on a CPU.
_KEEP_MEMORY = {
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "MALLOC_MMAP_THRESHOLD_": str(1 << 25),
}


class LocalJob(Job):
    """A run in a process of its own."""

    def __init__(self, folder: RunDir, wire: DriverEnd) -> None:
        self.folder = folder
        self.wire = wire
        self.pid: int | None = None
        self.code: int | None = None

    def poll(self) -> int | None:
        """Returns the exit code, negative for a signal, or None while it runs."""
        return self.code

    def stop(self, reason: str) -> None:
        """Asks the run to save and end."""
        self.folder.request_stop(reason)

    def kill(self) -> None:
        """Kills the run with every process it has started."""
        if self.pid is not None and self.code is None:
            try:
                os.killpg(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                return


class SlotLauncher(Launcher):
    """Runs trials in given slots of this machine.

    Args:
        packing: Which slots runs get.
        start: ``warm`` forks trials from a parent that has imported the framework; ``fresh``
            starts a new Python for each trial.
        preload: Modules that the warm parent imports.
        env: Environment variables of every trial, set before anything is imported.
    """

    packing: Packing
    #: What the other nodes of each trial have, if there are any.
    others: Sequence[Mapping[str, Any]] = ()

    def __init__(
        self,
        packing: Packing,
        start: Literal["warm", "fresh"] = "warm",
        preload: Sequence[str] = (),
        env: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        check_start(start, preload)
        own = ["dlsweep.cli.main", "dlsweep.trial.task"]
        self._preload = [*own, *preload] if start == "warm" else []
        self._env = {name: str(value) for name, value in env.items()}
        self.packing = packing
        self._jobs: dict[int, LocalJob] = {}
        self._starting: deque[LocalJob] = deque()
        self._judge: Judge = lambda _: None
        self._ready = False
        self._memory: dict[str, int] | None = None

    def start(self, judge: Judge, folder: Path) -> None:
        """Starts the warm parent, which imports while the driver continues."""
        self._folder = folder
        self._judge = judge
        self._socket, child = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._parent = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "dlsweep.launchers.warm", str(child.fileno()), *self._preload],
            pass_fds=[child.fileno()],
            stdin=subprocess.DEVNULL,
            env={**_KEEP_MEMORY, **os.environ, **_IMPORT_ONLY, **self._env},
        )
        child.close()

    @property
    def free_slots(self) -> int:
        """The number of jobs that can be submitted now."""
        return self.packing.without_need

    def memory(self) -> Sequence[Mapping[str, int]]:
        """Returns the bytes of memory of this machine."""
        if self._memory is None:
            self._memory = memory_limits()
        return [self._memory]

    def submit(self, argv: Sequence[str], folder: RunDir) -> Job:
        """Asks the parent to start a run. Its output goes to the run folder's log."""
        slot = self.packing.slot(folder.path)
        wire = DriverEnd()
        job = LocalJob(folder, wire)
        env = {**environment_of(folder), "PYTHONUNBUFFERED": "1"}
        if self.code:
            argv = in_snapshot(argv, Path.cwd(), self.code)
            env[CODE_VARIABLE] = str(self.code)
        request = {
            "argv": list(argv),
            "env": {**slot.environment(), **env},
            "cwd": os.getcwd(),
        }
        log = os.open(folder.log_file, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644)
        self._starting.append(job)
        with contextlib.suppress(BrokenPipeError):  # wait() handles a dead parent
            message = [json.dumps(request).encode()]
            socket.send_fds(self._socket, message, [log, wire.child_descriptor])
        os.close(log)
        wire.close_child()
        return job

    def wait(self, seconds: float) -> None:
        """Waits at most that many seconds for a notification or an end; answers notifications."""
        wires = {job.wire: job for job in self._jobs.values() if job.wire.is_open}
        watched: list[socket.socket | DriverEnd] = [self._socket, *wires]
        ready, _, _ = select.select(watched, [], [], seconds)
        for wire, job in wires.items():
            if wire in ready and wire.read_notification():
                wire.answer(self._judge(job.folder))
        if self._socket in ready:
            self._hear()

    def close(self) -> None:
        """Kills running jobs and the parent."""
        for job in self._jobs.values():
            job.kill()
        self._socket.close()
        self._parent.kill()  # it has no data, and may still be importing
        self._parent.wait()

    def _hear(self) -> None:
        message = b""
        with contextlib.suppress(ConnectionResetError):
            message = self._socket.recv(1 << 17)
        if message:
            self._take(json.loads(message))
        else:
            self._start_again()

    def _start_again(self) -> None:
        """Ends the trials of a parent that has died, and starts another parent."""
        code = self._parent.wait()
        said = f"The trials' parent process ended with exit code {code}"
        if not self._ready:
            raise RuntimeError(f"{said}.")
        print(f"{said}; starting another one.", file=sys.stderr)
        for job in [*self._jobs.values(), *self._starting]:
            job.kill()
            job.code = LOST
            job.wire.close()
            self.packing.give_back(job.folder.path)
        self._jobs.clear()
        self._starting.clear()
        self._ready = False
        self._socket.close()
        self.start(self._judge, self._folder)

    def _take(self, message: dict[str, Any]) -> None:
        if "started" in message:
            job = self._starting.popleft()
            job.pid = message["started"]
            self._jobs[message["started"]] = job
        elif "ended" in message:
            job = self._jobs.pop(message["ended"])
            job.code = message["code"]
            job.wire.close()
            self.packing.give_back(job.folder.path)
        elif "failed" in message:
            raise ConfigError(
                f"launcher.preload: {message['failed']!r} cannot be imported:\n{message['error']}"
                "Fix it, or start without preloading:  launcher.start=fresh"
            )
        else:
            self._ready = True
            self._say_whether_warm(message["threads"])

    def _say_whether_warm(self, threads: int) -> None:
        if threads > 1:
            print(
                f"Warm start is off: importing {', '.join(self._preload)} started "
                f"{threads - 1} threads, which makes a fork unsafe. "
                "Each trial starts a fresh Python instead.",
                file=sys.stderr,
            )


class LocalLauncher(SlotLauncher):
    """Runs trials on this machine, which is divided into slots.

    Args:
        start: ``warm`` forks trials from a parent that has imported the framework; ``fresh``
            starts a new Python for each trial.
        cpus_per_trial: Cores for each trial.
        gpus_per_trial: GPUs for each trial; with a fraction, several trials share one; ``auto`` is
            one, which trials share as soon as it is known that their memory fits, unless there
            are time limits.
        preload: Modules that the warm parent imports.
        env: Environment variables of every trial, set before anything is imported.
    """

    def __init__(
        self,
        start: Literal["warm", "fresh"] = "warm",
        cpus_per_trial: Share = "auto",
        gpus_per_trial: Share = "auto",
        preload: Sequence[str] = (),
        env: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        slots = cut_slots(cpus_per_trial, gpus_per_trial)
        is_packed = gpus_per_trial == "auto" and bool(slots[0].gpus)
        if is_packed:
            slots = shared(slots, cpus_per_trial)
        super().__init__(Packing(slots, by_count=not is_packed), start, preload, env)


def check_start(start: str, preload: Sequence[str]) -> None:
    """Checks how trials are to start, and that the modules to preload are installed.

    Raises:
        ConfigError: If there is no such way to start.
        MissingExtraError: If a module is not installed.
    """
    if start not in ("warm", "fresh"):
        raise ConfigError(f"launcher.start: Received {start!r}. Expected 'warm' or 'fresh'.")
    for name in preload:
        require_package(name.partition(".")[0], "launcher.preload")
