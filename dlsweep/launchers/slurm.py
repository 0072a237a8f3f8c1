"""Runs trials on a Slurm cluster, through submitit.

Each slot is a job whose worker runs trial after trial, so a sweep of 500 trials does not wait 500
times in the queue. Worker and driver exchange messages through files in the study folder, which all
nodes see. A job that is preempted, or comes to its time limit, has its trial save and end, and
requeues itself; its trial goes on in whatever slot is free first.

Whether a job lives is known from its worker's signs of life, and from ``squeue`` once they are
missing. Results are in the run folders: submitit's own result files are not read.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import secrets
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from dlsweep.errors import ConfigError, DeviceError, MissingExtraError
from dlsweep.folders.rundir import LOST, refuse_link
from dlsweep.launchers.base import Judge
from dlsweep.launchers.mailbox import ANSWER_POLL, Inbox, Outbox
from dlsweep.launchers.remote import RemoteLauncher
from dlsweep.launchers.seat import RemoteJob, Seat
from dlsweep.launchers.slurm_job import OVER, SlotJob
from dlsweep.launchers.squeue import Jobs, partitions
from dlsweep.launchers.worker import Message
from dlsweep.machine.devices import NODES_VARIABLE

try:
    import submitit
except ModuleNotFoundError as error:
    raise MissingExtraError("submitit", "launcher=slurm") from error

#: The folder with a mailbox for each worker, in the study folder.
_WORKERS = "workers"
#: A worker that has been silent for so long is looked up in Slurm's queue; one that Slurm still
#: calls running is lost after the second time. In seconds.
_SILENT, _LEASE = 4.0, 120.0
#: How long messages of a worker may still arrive after its job has ended, in seconds.
_LATE = 1.0
#: How old an answer of Slurm may be: about a worker that has fallen silent, and about a job in the
#: queue as a share of its time there, up to a limit. In seconds.
_SOON, _SHARE, _LATEST = 1.0, 0.1, 60.0
#: What sbatch says, after some ten seconds, when Slurm's controller is away; and when to try again,
#: in seconds.
_AWAY, _AGAIN = "Unable to contact slurm controller", 5.0
#: How often a job may requeue itself at its time limit: always.
_NO_LIMIT = 1_000_000
#: How a job starts Python: submitit can hear a warning once it is imported, and until then the
#: signal must not kill it.
_PYTHON = shlex.join(["sh", "-c", """trap "" USR2; exec "$@" """, "sh", sys.executable])
#: Slurm may warn a job a minute early; before its worker has started, nobody hears it. In seconds.
_SHORTEST = 120
#: Options of sbatch that this launcher sets itself.
_OWN = frozenset(
    {"array", "chdir", "error", "job-name", "nodes", "ntasks", "ntasks-per-node", "open-mode"}
    | {"output", "signal"}
)


class SlurmSeat(Seat):
    """A slot with its job.

    Args:
        folder: Its mailbox; its name is that of the job.
        job_id: The job; empty if it still has to be submitted.
        jobs: The queue.
        submit: Submits its job; returns the id, or an empty text while Slurm is away.

    Attributes:
        runs: How many trials have ended here.
    """

    def __init__(
        self, folder: Path, job_id: str, jobs: Jobs, submit: Callable[[Path], str]
    ) -> None:
        super().__init__(folder.name)
        self.job_id = job_id
        self._submit, self._submitted = submit, time.monotonic()
        self.runs = 0
        self._folder, self._jobs = folder, jobs
        self._outbox = Outbox(folder, "driver")
        self._inbox = Inbox(folder, "worker", is_new=True)
        self._has_begun = self._inbox.is_begun
        self._ended = 0.0
        self._loss = ""

    @property
    def can_answer(self) -> bool:
        """Whether its worker has started and is not lost."""
        return self._has_begun and not self._loss

    def send(self, message: Message) -> None:
        """Sends a message to the worker."""
        self._outbox.send({**message, "to": self._inbox.number})

    def receive(self) -> list[Message]:
        """Returns the worker's messages since the last call; asks Slurm about a silent one."""
        self._outbox.beat()
        messages = self._inbox.receive()
        if messages:
            self._has_begun = True
        elif self._inbox.silence > _SILENT:
            return self._look_up()
        self._ended = 0.0
        return messages

    def loss(self) -> str:
        """Returns why the worker is lost, or an empty text while it is not."""
        return self._loss

    def end(self) -> None:
        """Ends the worker and its job, for good."""
        (self._folder / OVER).touch()
        self.send({"kind": "end"})
        if self.job_id:
            self._jobs.cancel(self.job_id)

    def _look_up(self) -> list[Message]:
        if not self.job_id:
            if time.monotonic() - self._submitted > _AGAIN:
                self.job_id, self._submitted = self._submit(self._folder), time.monotonic()
            return []
        waits = min(_LATEST, _SOON + self._inbox.silence * _SHARE)
        state = self._jobs.find(self.job_id, _SOON if self._has_begun else waits)
        if state == "waits":
            return self._wait_again()
        if state == "runs":
            if self._has_begun and self._inbox.silence > _LEASE:
                self._loss = f"The worker of job {self.job_id} is silent for {_LEASE:g} s."
        elif state not in ("", "sleeps"):
            self._ended = self._ended or time.monotonic()
            if time.monotonic() - self._ended > _LATE:
                self._loss = state if self._has_begun else self._failed_start(state)
        return []

    def _wait_again(self) -> list[Message]:
        """Handles a job that Slurm has requeued without its worker's saying so."""
        if not self._has_begun:
            return []
        self._has_begun = False
        if self.job is None:
            return [{"kind": "leaves"}]
        trial = {"folder": str(self.job.folder.path), "attempt": self.job.attempt}
        return [{"kind": "leaves", **trial}, {"kind": "ended", "code": LOST, **trial}]

    def _failed_start(self, state: str) -> str:
        logs = sorted(self._folder.glob("log/*_log.err"))
        if not logs:
            return (
                f"{state} It has written no log, so its node does not see the study folder "
                f"{self._folder.parents[1]}.\n"
                "Expected a folder on a file system that all nodes "
                "share. Choose another one:  hydra.sweep.dir=… (of a single run: hydra.run.dir=…)"
            )
        lines = logs[-1].read_text(errors="replace").strip().splitlines()[-5:]
        said = "".join(f"\n  {line}" for line in lines)
        return f"{state} Its worker has not started. The last lines of its log:{said}"


class SlurmLauncher(RemoteLauncher):
    """Runs trials on a Slurm cluster; the options named as those of ``sbatch`` mean the same.

    Args:
        slots: Trials at a time; each slot is a job.
        trials_per_job: How many trials a job runs; null for no limit.
        partition: The partition; null for the cluster's default.
        account: The account; null for the user's default.
        qos: The quality of service; null for the default.
        time: Minutes that a job may take; at the limit, its trial saves, and it requeues itself.
        mem: Memory of a trial, such as ``16GB``; null for the partition's default.
        gres: Further resources, or GPUs of one type, such as ``gpu:a100:2``.
        constraint: Features that a node must have.
        signal_delay_s: Seconds before the time limit at which the trial is told to save.
        setup: Shell commands that a job runs first, such as ``module load cuda``.
        sbatch: Any other options of ``sbatch``, such as ``{exclude: n3}``.
        cpus_per_trial: CPUs of a trial on each of its nodes; also the number of its threads there.
        gpus_per_trial: GPUs of a trial on each of its nodes.
        nodes_per_trial: Nodes of a trial, for trainers of PyTorch; each slot is a job on so many.
        start: As in the local launcher.
        preload: As in the local launcher.
        env: As in the local launcher.
        patience: Seconds that trials go on without a driver, for another one to adopt them.
    """

    def __init__(
        self,
        slots: int = 1,
        trials_per_job: int | None = None,
        partition: str | None = None,
        account: str | None = None,
        qos: str | None = None,
        time: int = 1440,
        mem: str | None = None,
        gres: str | None = None,
        constraint: str | None = None,
        signal_delay_s: int = 90,
        setup: Sequence[str] = (),
        sbatch: Mapping[str, Any] = MappingProxyType({}),
        cpus_per_trial: int = 1,
        gpus_per_trial: int = 0,
        nodes_per_trial: int = 1,
        start: Literal["warm", "fresh"] = "warm",
        preload: Sequence[str] = (),
        env: Mapping[str, str] = MappingProxyType({}),
        patience: float = 600.0,
    ) -> None:
        _check_whole("nodes_per_trial", nodes_per_trial)
        if nodes_per_trial > 1:
            env = {**env, NODES_VARIABLE: str(nodes_per_trial)}
        super().__init__(cpus_per_trial, gpus_per_trial, start, preload, env, patience)
        self._nodes = nodes_per_trial
        _check_whole("slots", slots)
        _check_whole("time", time)
        _check_whole("signal_delay_s", signal_delay_s)
        if trials_per_job is not None:
            _check_whole("trials_per_job", trials_per_job)
        if time * 60 < signal_delay_s + _SHORTEST:
            raise ConfigError(
                f"launcher.time: Received {time} minutes with launcher.signal_delay_s="
                f"{signal_delay_s}. Expected {_SHORTEST} s more than that at least: Slurm may send "
                "the signal a minute early."
            )
        self._check_gpus(gres or "")
        if own := sorted({name.replace("_", "-") for name in sbatch} & _OWN):
            raise ConfigError(
                f"launcher.sbatch: Received {own[0]!r}, which the launcher sets itself. Expected "
                "other options of sbatch, such as exclude or reservation."
            )
        options = {"partition": partition, "account": account, "qos": qos, "mem": mem, "gres": gres}
        for name, value in {**options, "constraint": constraint, **sbatch}.items():
            _check_line(name, value)
        if shutil.which("sbatch") is None:
            raise ConfigError(
                "launcher=slurm: This machine has no command sbatch. Expected a machine that "
                "submits to a Slurm cluster, such as its login node."
            )
        self._partitions = partitions()
        self._slots, self._trials_per_job = slots, trials_per_job
        self._jobs = Jobs()
        self._has_said_away = False
        self._parameters: dict[str, Any] = {
            "partition": partition,
            "account": account,
            "qos": qos,
            "time": time,
            "mem": mem,
            "gres": gres,
            "constraint": constraint,
            "signal_delay_s": signal_delay_s,
            "setup": list(setup),
            "nodes": nodes_per_trial,
            "ntasks_per_node": 1,
            "cpus_per_task": self.cpus_per_trial,
            "gpus_per_node": int(gpus_per_trial) or None if "gpu" not in (gres or "") else None,
            # Since Slurm 22.05, a step does not inherit the CPUs of its job.
            "srun_args": [f"--cpus-per-task={self.cpus_per_trial}", "--kill-on-bad-exit=1"],
            "additional_parameters": {"requeue": True, **sbatch},
        }

    @property
    def slots(self) -> int:
        """The number of jobs to ask for."""
        return self._slots

    def start(self, judge: Judge, folder: Path) -> None:
        """Adopts the jobs of an earlier driver of this study, and submits the others.

        Raises:
            DeviceError: If Slurm refuses them.
            StudyError: If the folder for their mailboxes is a link.
        """
        self._workers = folder / _WORKERS
        refuse_link(self._workers)  # what is in it is removed
        try:
            super().start(judge, folder)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Ends all jobs and removes their mailboxes."""
        super().close()
        until = time.monotonic() + _LATE
        while self._workers.exists() and time.monotonic() < until:  # workers write their last words
            shutil.rmtree(self._workers, ignore_errors=True)

    def _find_seats(self) -> list[Seat]:
        seats: list[Seat] = []
        jobs = self._jobs.unfinished()
        for folder in sorted(self._workers.glob("*")):
            if folder.name in jobs and not (folder / OVER).exists():
                seats.append(SlurmSeat(folder, jobs[folder.name], self._jobs, self._submit))
            else:
                shutil.rmtree(folder, ignore_errors=True)
        return seats

    def _open_seat(self, number: int) -> Seat:
        name = re.sub(r"[^\w.-]", "_", self._workers.parent.name)
        folder = self._workers / f"{name}-{number}-{secrets.token_hex(4)}"
        folder.mkdir(parents=True)
        return SlurmSeat(folder, self._submit(folder), self._jobs, self._submit)

    def _submit(self, folder: Path) -> str:
        """Submits the job of a slot; returns its id, or an empty text while Slurm is away.

        Raises:
            DeviceError: If Slurm refuses it, or is away before any worker has started.
        """
        logs = folder / "log"
        executor = submitit.SlurmExecutor(logs, max_num_timeout=_NO_LIMIT, python=_PYTHON)
        given = {key: value for key, value in self._parameters.items() if value is not None}
        executor.update_parameters(job_name=folder.name, **given)
        kept = {key: os.environ[key] for key in os.environ if _is_of_user(key)}
        try:
            # The environment of the job that the driver may be in; submitit prints what it raises.
            with submitit.helpers.clean_env(), contextlib.redirect_stderr(io.StringIO()):
                os.environ.update(kept)
                job = executor.submit(SlotJob(self.setup(), str(folder), self._nodes))
        except submitit.core.utils.FailedJobError as error:
            if _AWAY in str(error) and self._was_ready:
                self._say_away()
                return ""
            lines = re.findall(r"sbatch: (?:error: )?(.+)", str(error)) or [str(error)]
            raise DeviceError(
                f"launcher=slurm: sbatch has refused the job of a slot: {'; '.join(lines)}\n"
                f"{self._partitions}"
            ) from None
        self._jobs.forget()
        self._has_said_away = False
        return str(job.job_id)

    def _say_away(self) -> None:
        """Says once that Slurm is away."""
        if not self._has_said_away:
            self._has_said_away = True
            print(
                "Slurm's controller does not answer. The running trials go on; the job of a slot "
                "is submitted when it answers again.",
                file=sys.stderr,
            )

    def _end(self, seat: Seat, job: RemoteJob, code: int) -> None:
        """Ends a run; replaces a job that has run its number of trials."""
        super()._end(seat, job, code)
        assert isinstance(seat, SlurmSeat)
        seat.runs += job.folder.info_file.exists()  # a check has none
        if code != LOST and self._trials_per_job and seat.runs >= self._trials_per_job:
            number = self._seats.index(seat)
            seat.end()
            self._seats[number] = self._open_seat(number)

    def _rest(self, seconds: float) -> None:
        time.sleep(min(seconds, ANSWER_POLL))

    def _check_gpus(self, gres: str) -> None:
        gpus = self.gpus_per_trial
        if gpus != int(gpus):
            raise ConfigError(
                f"launcher.gpus_per_trial: Received {gpus}. Expected a whole number: Slurm does "
                "not share a GPU between jobs."
            )
        if "gpu" in gres and not gpus:
            raise ConfigError(
                f"launcher.gres: Received {gres!r} with launcher.gpus_per_trial=0. "
                "Expected their number there too."
            )


def _check_whole(name: str, value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError(f"launcher.{name}: Received {value!r}. Expected a whole number from 1.")


def _check_line(name: str, value: Any) -> None:
    """Checks an option of sbatch: a line break would make the rest a command of the job."""
    if not re.fullmatch(r"[\w-]+", name) or not str(value).isprintable():
        raise ConfigError(
            f"launcher: Received the option {name!r} of sbatch with the value {value!r}. "
            "Expected a name of letters and a value of one line."
        )


def _is_of_user(name: str) -> bool:
    """Whether an environment variable is a user's own setting for sbatch."""
    return name == "SLURM_CONF" or name.startswith("SBATCH_")
