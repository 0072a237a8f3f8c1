"""The driver's side of a cluster: runs trials through workers on its nodes.

A seat is a slot of the cluster with its worker. The cluster's own retries and result files are not
used: a trial whose worker is lost ends as ``node_lost``, the driver begins another attempt of it,
and the fence of :mod:`dlsweep.folders.attempt` keeps a worker out that was only cut off.
"""

from __future__ import annotations

import os
import secrets
import signal
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
from dlsweep.folders.rundir import LOST, Result, RunDir, write_atomically
from dlsweep.launchers.base import Job, Judge, Launcher
from dlsweep.launchers.local import check_start
from dlsweep.launchers.seat import RemoteJob, Seat
from dlsweep.launchers.snapshot import code_files, digest_of
from dlsweep.launchers.streaming import pack
from dlsweep.launchers.worker import Message, Setup, run_message, versions

#: How often a lost worker is replaced before a trial has run in its place: once more than
#: ``node_lost`` retries a trial, so a trial that takes its workers along ends alone.
_REPLACEMENTS = 4
#: How often stop files are handed on to nodes that do not see them, in seconds.
_LOOK_EVERY = 0.5
#: Seats that are not ready after so many seconds wait for the cluster, which the user should know.
_BUSY_AFTER = 15.0
#: The first part of the name of the file that shows a node that it sees the study folder.
_TOKEN = ".seen-"  # noqa: S105 - no secret


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
        if not patience > 0:
            raise ConfigError(f"launcher.patience: Received {patience}. Expected seconds above 0.")
        check_start(start, preload)
        self.cpus_per_trial = int(cpus_per_trial)
        self.gpus_per_trial = gpus_per_trial
        self._start, self._preload = start, list(preload)
        self._env = {name: str(value) for name, value in env.items()}
        self._patience = patience
        self._seats: list[Seat] = []
        self._memory: dict[int, Mapping[str, int]] = {}
        self._waiting: deque[RemoteJob] = deque()
        self._adoptable: dict[Path, RemoteJob] = {}
        self._looked = 0.0
        self._was_ready = False
        self._has_lost = False
        self._has_said_busy = False

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
        idle = sum(seat.is_ready and not seat.is_outdated and not seat.job for seat in self._seats)
        return idle - len(self._waiting)

    def memory(self) -> Sequence[Mapping[str, int]]:
        """Returns the bytes of memory that each seat's trials may use, when all have told."""
        return list(self._memory.values()) if len(self._memory) == len(self._seats) else ()

    def start(self, judge: Judge, folder: Path) -> None:
        """Finds the workers of an earlier driver, and asks the cluster for the other seats.

        Raises:
            DeviceError: If the cluster can never give what a trial needs.
        """
        self._judge = judge
        self._folder = folder
        token = _token_in(folder)
        code = sorted(map(str, code_files(Path.cwd())))
        self._setup = Setup(
            study=str(folder),
            token=token,
            project=os.getcwd(),
            code=code,
            digest=digest_of(Path.cwd(), code),
            cpus=self.cpus_per_trial,
            gpus=self.gpus_per_trial > 0,
            start=self._start,
            preload=self._preload,
            env=self._env,
            patience=self._patience,
        )
        self._began = time.monotonic()
        self._seats = self._find_seats()
        for seat in self._seats:
            seat.send({"kind": "hello"})
            seat.is_asked = True
        for number in range(len(self._seats), min(self.slots, self.most or self.slots)):
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
        """Returns the job of a run that an earlier driver has left, if there is one.

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
            (self._folder / self._setup.token).unlink(missing_ok=True)

    def setup(self) -> dict[str, Any]:
        """Returns what a worker is started with."""
        return asdict(self._setup)

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
            self._answer(seat)
        self._kill_unwanted()
        self._assign()
        self._hand_on_stops()
        self._say_if_busy()
        return heard

    def _take(self, seat: Seat, message: Message) -> None:
        kind = message["kind"]
        if kind == "broken":
            raise ConfigError(message["error"])
        if kind == "ready":
            self._take_ready(seat, message["about"])
            if seat.job:  # it ran in an earlier process of the worker
                self._end(seat, seat.job, LOST)
            return
        job = self._job_of(seat, message)
        if kind == "state":
            self._take_ready(seat, message["about"])
            seat.is_outdated = message["setup"] != self.setup()
            seat.shares = seat.shares and not message["is_streamed"]
        elif kind == "leaves":
            self._leave(seat, job)
        elif job is None:
            return  # of an earlier attempt
        elif kind == "notice":
            job.notice = message["notice"]
        elif kind == "ended":
            if job.folder.log_file.parent != job.folder.path:  # a check, which logs to the terminal
                print(RunDir(job.folder.path).log_tail(100), end="", file=sys.stderr)
            if not seat.shares:
                job.receiver.clear()
            self._end(seat, job, message["code"])
        else:
            getattr(job.receiver, f"on_{kind}")(message)

    def _take_ready(self, seat: Seat, about: dict[str, Any]) -> None:
        for node in (about, *about["others"]):
            self.check(node)
        seat.is_ready, seat.shares, seat.is_asked = True, about["shares"], False
        self._was_ready = True
        self._memory[self._seats.index(seat)] = about["memory"]

    def _job_of(self, seat: Seat, message: Message) -> RemoteJob | None:
        """Returns the seat's job that a message is about; it may be one to adopt."""
        if "folder" not in message:
            return None
        folder = RunDir(message["folder"])
        if seat.job is None and self._is_known(folder):
            job = RemoteJob(folder, [])
            if job.attempt == message["attempt"]:
                seat.job = self._adoptable[folder.path] = job
        if seat.job is None:
            seat.send({"kind": "kill"})  # nobody will adopt it
            return None
        is_same = seat.job.folder.path == folder.path and seat.job.attempt == message["attempt"]
        return seat.job if is_same else None

    def _is_known(self, folder: RunDir) -> bool:
        """Whether it is a run of this study whose process an earlier driver may have started."""
        return folder.path.is_relative_to(self._folder) and folder.info_file.exists()

    def _answer(self, seat: Seat) -> None:
        """Answers a notice, unless the driver does not know the run yet."""
        job = seat.job
        if job and job.notice and job.folder.path not in self._adoptable:
            notice, job.notice = job.notice, 0
            seat.send({"kind": "answer", "notice": notice, "stop": self._judge(job.folder)})

    def _end(self, seat: Seat, job: RemoteJob, code: int) -> None:
        if code == LOST:
            Attempt.begin(job.folder)  # shuts out a process that was only cut off
            job.folder.lock_file.unlink(missing_ok=True)
        else:
            seat.losses = 0
        job.code, seat.job = code, None

    def _leave(self, seat: Seat, running: RemoteJob | None) -> None:
        """Submits no more to a worker that ends; a run that came too late goes elsewhere."""
        seat.is_ready, job = False, seat.job
        self._began = time.monotonic()  # it waits for the cluster again
        if job and running is None:
            seat.job = None
            self._waiting.appendleft(job)

    def check(self, about: dict[str, Any]) -> None:
        """Checks that a node has what this machine has.

        Raises:
            DeviceError: If the folder is missing there, or a version or the user's code differs.
        """
        if not about["has_project"]:
            raise DeviceError(
                f"The node {about['host']} has no folder {self._setup.project}.\n"
                "Start the sweep in a folder that every node has, with the same code."
            )
        mine, yours = versions(), about["versions"]
        differ = [
            f"{name} {yours.get(name, 'missing')} instead of {mine.get(name, 'none')}"
            for name in sorted({*mine, *yours})
            if mine.get(name) != yours.get(name)
        ]
        if about["digest"] != self._setup.digest and not about["shares"]:
            differ.append(f"other code in {self._setup.project}")
        if differ:
            raise DeviceError(
                f"The node {about['host']} differs from this machine: it has "
                f"{', '.join(differ)}.\nInstall the same there, and start again."
            )

    def _lose(self, seat: Seat, why: str) -> None:
        """Ends the job of a lost worker, and asks for another worker."""
        self._has_lost, losses = True, seat.losses + 1
        seat.end()
        if seat.job:
            self._end(seat, seat.job, LOST)
        if not self._was_ready:
            raise DeviceError(why)
        if losses > _REPLACEMENTS:
            raise DeviceError(f"{why}\nIts replacements were lost too; see the cluster's own logs.")
        print(f"{why} Asking for another one.", file=sys.stderr)
        self._replace(seat).losses = losses

    def _replace(self, seat: Seat) -> Seat:
        number = self._seats.index(seat)
        self._seats[number] = self._open_seat(number)
        return self._seats[number]

    def _assign(self) -> None:
        for seat in list(self._seats):
            if seat.is_ready and seat.is_outdated and seat.job is None:
                seat.end()
                self._replace(seat)
            elif seat.is_ready and seat.job is None and self._waiting:
                self._run(seat, self._waiting.popleft())

    def _run(self, seat: Seat, job: RemoteJob) -> None:
        seat.job = job
        if not seat.shares:
            job.receiver.clear()
            for message in pack(job.folder):
                seat.send(message)
        seat.send(run_message(job.argv, job.folder, job.attempt, self.code, not seat.shares))

    def _kill_unwanted(self) -> None:
        for seat in self._seats:
            if seat.job and seat.job.must_die:
                seat.job.must_die = False
                seat.send({"kind": "kill"})
        for job in [job for job in self._waiting if job.must_die]:
            self._waiting.remove(job)
            job.code = -signal.SIGKILL

    def _hand_on_stops(self) -> None:
        """Tells trials about stop files that their nodes do not see, and ends waiting ones."""
        if time.monotonic() - self._looked < _LOOK_EVERY:
            return
        self._looked = time.monotonic()
        for seat in self._seats:
            job = seat.job
            if job and not seat.shares and (reason := job.folder.stop_reason()) != job.handed_on:
                job.handed_on = reason
                seat.send({"kind": "stop", "reason": reason})
        for job in [job for job in self._waiting if job.folder.stop_reason()]:
            self._waiting.remove(job)
            job.folder.write_result(Result("interrupted", ended=time.time()))
            job.code = 0

    def _say_if_busy(self) -> None:
        """Says once that the cluster has not given every seat yet."""
        pending = sum(not seat.is_ready and not seat.job for seat in self._seats)
        if self._has_said_busy or not pending or time.monotonic() - self._began < _BUSY_AFTER:
            return
        self._has_said_busy = True
        print(
            f"{pending} of {len(self._seats)} slots wait for the cluster, which is busy with "
            "something else. They are used as soon as it gives them.",
            file=sys.stderr,
        )


def _token_in(folder: Path) -> str:
    """Returns the name of the file by which nodes see the study folder; creates it if missing."""
    folder.mkdir(parents=True, exist_ok=True)
    if found := sorted(folder.glob(f"{_TOKEN}*")):
        return found[0].name  # of a killed driver, whose workers know it
    token = f"{_TOKEN}{secrets.token_hex(8)}"
    write_atomically(folder / token, "")
    return token
