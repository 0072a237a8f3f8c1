"""The driver's side of a cluster: runs trials through workers on its nodes.

A seat is a slot of the cluster with its worker. The cluster's own retries and result files are not
used: a trial whose worker is lost ends as ``node_lost``, the driver begins another attempt of it,
and the fence of :mod:`dlsweep.folders.attempt` keeps a worker out that was only cut off.
"""

from __future__ import annotations

import os
import secrets
import sys
import time
from abc import abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from dlsweep.errors import ConfigError, DeviceError
from dlsweep.folders.attempt import Attempt
from dlsweep.folders.rundir import LOST, RunDir, write_atomically
from dlsweep.launchers.base import Job, Judge, Launcher
from dlsweep.launchers.local import refuse_absent_modules
from dlsweep.launchers.snapshot import code_digest
from dlsweep.launchers.streaming import Receiver, pack
from dlsweep.launchers.worker import Message, Setup, versions

#: How often a lost worker is replaced before a trial has run in its place.
_REPLACEMENTS = 3
#: How often stop files are handed on to nodes that do not see them, in seconds.
_LOOK_EVERY = 0.5
#: The first part of the name of the file that shows a node that it sees the study folder.
_PROBE = ".seen-"


class Seat:
    """A slot of the cluster, with the worker that runs its trials.

    Attributes:
        name: Its name, unique within the sweep.
        is_ready: Whether its worker can run trials.
        shares: Whether its node sees the driver's folders.
        job: The job that runs there.
        losses: How many workers were lost here since a trial has last run.
        is_asked: Whether its worker still has to say what it runs.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_ready = False
        self.shares = True
        self.job: RemoteJob | None = None
        self.losses = 0
        self.is_asked = False

    @property
    def can_answer(self) -> bool:
        """Whether its worker has started and is not lost."""
        return True

    @abstractmethod
    def send(self, message: Message) -> None:
        """Sends a message to the worker."""

    @abstractmethod
    def receive(self) -> list[Message]:
        """Returns the worker's messages since the last call, without waiting."""

    @abstractmethod
    def loss(self) -> str:
        """Returns why the worker is lost, or an empty text while it is not."""

    @abstractmethod
    def end(self) -> None:
        """Ends the worker, and whatever the cluster keeps for it."""


class RemoteJob(Job):
    """A run on a node of the cluster."""

    def __init__(self, folder: RunDir, argv: Sequence[str]) -> None:
        self.folder = folder
        self.argv = list(argv)
        self.attempt = Attempt.current(folder).number
        self.receiver = Receiver(folder)
        self.seat: Seat | None = None
        self.code: int | None = None
        self.is_asking = False

    def poll(self) -> int | None:
        """Returns the exit code, negative for a signal, or None while it runs."""
        return self.code

    def stop(self, reason: str) -> None:
        """Asks the run to save and end."""
        self.folder.request_stop(reason)

    def kill(self) -> None:
        """Kills the run with every process it has started."""
        if self.seat:
            self.seat.send({"kind": "kill"})


class RemoteLauncher(Launcher):
    """Runs trials through workers; each cluster has a subclass that starts them.

    Args:
        cpus_per_trial: CPU threads of a trial.
        gpus_per_trial: GPUs of a trial.
        start: ``warm`` forks trials from a parent on each slot that has imported the framework;
            ``fresh`` starts a new Python for each trial.
        preload: Modules that the warm parents import.
        env: Environment variables of every trial, set before anything is imported.
        patience: Seconds that trials go on without a driver, for another one to adopt them.
    """

    def __init__(
        self,
        cpus_per_trial: int = 1,
        gpus_per_trial: float = 0,
        start: Literal["warm", "fresh"] = "warm",
        preload: Sequence[str] = (),
        env: Mapping[str, str] = MappingProxyType({}),
        patience: float = 600.0,
    ) -> None:
        if cpus_per_trial != int(cpus_per_trial) or cpus_per_trial < 1:
            raise ConfigError(
                f"launcher.cpus_per_trial: Received {cpus_per_trial}. "
                "Expected a whole number from 1."
            )
        if gpus_per_trial < 0 or (gpus_per_trial > 1 and gpus_per_trial != int(gpus_per_trial)):
            raise ConfigError(
                f"launcher.gpus_per_trial: Received {gpus_per_trial}. "
                "Expected 0, a fraction of one, or a whole number."
            )
        refuse_absent_modules(preload)
        self.cpus_per_trial = int(cpus_per_trial)
        self.gpus_per_trial = gpus_per_trial
        self._start, self._preload = start, list(preload)
        self._env = {name: str(value) for name, value in env.items()}
        self._patience = patience
        self._seats: list[Seat] = []
        self._waiting: deque[RemoteJob] = deque()
        self._adoptable: dict[Path, RemoteJob] = {}
        self._looked = 0.0
        self._was_ready = False

    @abstractmethod
    def _find_seats(self) -> list[Seat]:
        """Returns the seats that an earlier driver of this study has left on the cluster."""

    @abstractmethod
    def _open_seat(self, number: int) -> Seat:
        """Asks the cluster for a seat."""

    @abstractmethod
    def _rest(self, seconds: float) -> None:
        """Waits at most that many seconds for a message of any worker."""

    @property
    @abstractmethod
    def slots(self) -> int:
        """The number of seats to ask for."""

    @property
    def free_slots(self) -> int:
        """The number of jobs that can be submitted now: of seats whose worker is idle."""
        if not self._seats:
            return self.slots  # not started yet
        return sum(seat.is_ready and not seat.job for seat in self._seats) - len(self._waiting)

    def start(self, judge: Judge, folder: Path) -> None:
        """Adopts the workers of an earlier driver, and asks the cluster for the other seats.

        Raises:
            DeviceError: If the cluster can never give what a trial needs.
        """
        self._judge = judge
        self._token = f"{_PROBE}{secrets.token_hex(8)}"
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / self._token, "")
        self._setup = Setup(
            study=str(folder),
            token=self._token,
            project=os.getcwd(),
            cpus=self.cpus_per_trial,
            gpus=self.gpus_per_trial > 0,
            start=self._start,
            preload=self._preload,
            env=self._env,
            patience=self._patience,
        )
        self._code = code_digest(Path.cwd())
        self._seats = self._find_seats()
        for seat in self._seats:
            seat.send({"kind": "hello"})
            seat.is_asked = True
        for number in range(len(self._seats), self.slots):
            self._seats.append(self._open_seat(number))

    def submit(self, argv: Sequence[str], folder: RunDir) -> Job:
        """Starts a run on an idle seat, or on the first that becomes ready."""
        for unwanted in self._adoptable.values():
            unwanted.kill()
        job = RemoteJob(folder, argv)
        self._waiting.append(job)
        self._assign()
        return job

    def adopt(self, folder: RunDir) -> Job | None:
        """Returns the job of a run that an earlier driver has left running, if there is one.

        Runs that are not adopted before the first is submitted are killed then.
        """
        while any(seat.is_asked and seat.can_answer for seat in self._seats):
            self.wait(_LOOK_EVERY)
        return self._adoptable.pop(folder.path, None)

    def wait(self, seconds: float) -> None:
        """Waits at most that many seconds for a notification or an end; answers notifications."""
        deadline = time.monotonic() + seconds
        while not self._hear():
            left = deadline - time.monotonic()
            if left <= 0:
                return
            self._rest(left)

    def close(self) -> None:
        """Ends all workers."""
        for seat in self._seats:
            seat.end()
        if self._seats:
            for token in Path(self._setup.study).glob(f"{_PROBE}*"):  # also of killed drivers
                token.unlink(missing_ok=True)

    def setup(self) -> dict[str, Any]:
        """Returns what a worker is started with."""
        return {**asdict(self._setup), "env": dict(self._env)}

    def _hear(self) -> bool:
        """Handles the messages that have come; returns whether there were any."""
        heard = False
        for seat in list(self._seats):
            for message in seat.receive():
                heard = True
                self._take(seat, message)
            if why := seat.loss():
                heard = True
                self._lose(seat, why)
            if seat.job and seat.job.is_asking and seat.job.folder.path not in self._adoptable:
                seat.job.is_asking = False
                seat.send({"kind": "answer", "stop": self._judge(seat.job.folder)})
        self._assign()
        self._hand_on_stops()
        return heard

    def _take(self, seat: Seat, message: Message) -> None:
        kind, job = message["kind"], seat.job
        if kind == "broken":
            raise ConfigError(message["error"])
        if kind == "ready":
            self._check(message["about"])
            seat.is_ready, seat.shares = True, message["about"]["shares"]
            seat.is_asked, self._was_ready = False, True
            if job:  # it ran in an earlier process of the worker
                self._end(seat, job, LOST)
        elif kind == "state":
            self._adopt_from(seat, message)
        elif kind == "leaves":
            self._leave(seat, message["folder"])
        elif job is None:
            return
        elif kind == "notice":
            job.is_asking = True
        elif kind == "bytes":
            job.receiver.on_bytes(message)
        elif kind == "checkpoint":
            job.receiver.on_checkpoint(message)
        elif kind == "ended" and message["attempt"] == job.attempt:
            if job.folder.log_file.parent != job.folder.path:  # a check, which logs to the terminal
                print(RunDir(job.folder.path).log_tail(100), end="", file=sys.stderr)
            self._end(seat, job, message["code"])

    def _end(self, seat: Seat, job: RemoteJob, code: int) -> None:
        if code == LOST:
            job.folder.lock_file.unlink(missing_ok=True)  # its holder is behind the fence
        else:
            seat.losses = 0
        self._adoptable.pop(job.folder.path, None)
        job.code, seat.job = code, None

    def _leave(self, seat: Seat, running: str | None) -> None:
        """Submits no more to a worker that ends; a run that came too late goes elsewhere."""
        seat.is_ready, job = False, seat.job
        if job and running != str(job.folder.path):
            job.seat = seat.job = None
            self._waiting.appendleft(job)

    def _adopt_from(self, seat: Seat, state: Message) -> None:
        seat.is_ready, seat.shares = True, not state["is_streamed"]
        seat.is_asked, self._was_ready = False, True
        if state["folder"] is None:
            return
        job = RemoteJob(RunDir(state["folder"]), [])
        if job.attempt != state["attempt"]:
            seat.send({"kind": "kill"})
            return
        job.seat, seat.job = seat, job
        self._adoptable[job.folder.path] = job

    def _check(self, about: dict[str, Any]) -> None:
        """Checks that a node has what this machine has.

        Raises:
            DeviceError: If a version or the user's code differs.
        """
        mine, yours = versions(), about["versions"]
        differ = [
            f"{name} {yours.get(name, 'missing')} instead of {mine.get(name, 'none')}"
            for name in sorted({*mine, *yours})
            if mine.get(name) != yours.get(name)
        ]
        if about["code"] != self._code and not about["shares"]:
            differ.append(f"other code in {self._setup.project}")
        if differ:
            raise DeviceError(
                f"The node {about['host']} differs from this machine: it has "
                f"{', '.join(differ)}.\nInstall the same versions there, and start again."
            )

    def _lose(self, seat: Seat, why: str) -> None:
        """Ends the job of a lost worker, and asks for another worker."""
        job, number = seat.job, self._seats.index(seat)
        losses = seat.losses + 1
        seat.end()
        if job:
            self._end(seat, job, LOST)
        if not self._was_ready:
            raise DeviceError(why)
        if losses > _REPLACEMENTS:
            raise DeviceError(f"{why}\nIts replacements were lost too; see the cluster's own logs.")
        print(f"{why} Asking for another one.", file=sys.stderr)
        self._seats[number] = self._open_seat(number)
        self._seats[number].losses = losses

    def _assign(self) -> None:
        for seat in self._seats:
            if self._waiting and seat.is_ready and seat.job is None:
                job = self._waiting.popleft()
                job.seat, seat.job = seat, job
                seat.send({**_run(job, seat.shares), "code": self.code and str(self.code)})

    def _hand_on_stops(self) -> None:
        """Tells trials about stop files that their nodes do not see."""
        if time.monotonic() - self._looked < _LOOK_EVERY:
            return
        self._looked = time.monotonic()
        for seat in self._seats:
            if seat.job and not seat.shares and (reason := seat.job.folder.stop_reason()):
                seat.send({"kind": "stop", "reason": reason})


def _run(job: RemoteJob, shares: bool) -> Message:
    message: Message = {
        "kind": "run",
        "argv": job.argv,
        "folder": str(job.folder.path),
        "attempt": job.attempt,
    }
    return message if shares else {**message, "files": pack(job.folder)}
