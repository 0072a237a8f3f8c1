"""Slurm's queue: this user's jobs as ``squeue`` lists them, and the partitions of the cluster."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from dlsweep.errors import ConfigError, DeviceError

#: States by what they mean for a job's worker; all others are ends.
_WAITS = frozenset({"PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT"})
_RUNS = frozenset({"RUNNING", "COMPLETING", "CONFIGURING", "SIGNALING", "STAGE_OUT", "RESIZING"})
_SLEEPS = frozenset({"SUSPENDED", "STOPPED"})
#: What to do about an end.
_ADVICE = {
    "TIMEOUT": " What ran there had not ended launcher.signal_delay_s after Slurm's warning: raise "
    "that, or have the training look at run.should_stop more often."
}
#: Reasons to wait that do not pass by themselves, in part; Slurm queues such jobs all the same.
_NEVER = (
    "BadConstraints",
    "PartitionConfig",
    "PartitionNodeLimit",
    "PartitionTimeLimit",
    "InvalidAccount",
    "InvalidQOS",
    "launch failed",
)


class Jobs:
    """This user's jobs. Seats share one, so that Slurm is asked once for all of them."""

    def __init__(self) -> None:
        self._table: dict[str, tuple[str, str, str]] | None = None
        self._asked = 0.0
        self._said: set[str] = set()

    def find(self, job_id: str, pause: float) -> str:
        """Returns a job's state, by what it means for its worker.

        Args:
            job_id: The job.
            pause: How old the answer may be, in seconds.

        Returns:
            ``waits``, ``runs`` or ``sleeps``; a sentence about its end; empty if Slurm does not
            answer.

        Raises:
            DeviceError: If the job waits for what the cluster does not have.
        """
        if self._table is None or time.monotonic() - self._asked > pause:
            self._ask()
        if self._table is None:
            return ""
        if job_id not in self._table:
            return f"The Slurm job {job_id} is not in the queue any more."
        _, state, reason = self._table[job_id]
        for names, meaning in ((_RUNS, "runs"), (_SLEEPS, "sleeps")):
            if state in names:
                return meaning
        if state not in _WAITS:
            return f"The Slurm job {job_id} has ended: {state}.{_ADVICE.get(state, '')}"
        self._say(job_id, reason)
        return "waits"

    def unfinished(self) -> dict[str, str]:
        """Returns the ids of the jobs that have not ended, by job name.

        Raises:
            ConfigError: If Slurm does not answer.
        """
        self._ask()
        if self._table is None:
            raise ConfigError("launcher=slurm: squeue does not answer; try again later.")
        alive = _WAITS | _RUNS | _SLEEPS
        return {name: job for job, (name, state, _) in self._table.items() if state in alive}

    def forget(self) -> None:
        """Has the next call ask Slurm, because there is a new job."""
        self._table = None

    def cancel(self, job_id: str) -> None:
        """Cancels a job, if it has not ended."""
        call("scancel", job_id)

    def _ask(self) -> None:
        self._asked = time.monotonic()
        user, columns = str(os.getuid()), "%A|%T|%r|%j"
        found = call(
            "squeue", "--noheader", f"--user={user}", "--states=all", f"--format={columns}"
        )
        if found.returncode:
            self._table = None
            return
        rows = [line.strip().split("|", 3) for line in found.stdout.splitlines() if "|" in line]
        self._table = {job: (name, state, reason) for job, state, reason, name in rows}

    def _say(self, job_id: str, reason: str) -> None:
        """Tells the user once why jobs wait."""
        if any(text in reason for text in _NEVER):
            raise DeviceError(
                f"The Slurm job {job_id} would wait for ever: {reason}.\n{partitions()}"
            )
        if reason not in self._said and reason not in ("None", "BeginTime"):
            self._said.add(reason)
            print(f"The Slurm job {job_id} waits in the queue: {reason}", file=sys.stderr)


def partitions() -> str:
    """Returns the cluster's partitions and what their nodes have, for people.

    Raises:
        ConfigError: If Slurm does not answer.
    """
    columns = "  %R: %D nodes with %c CPUs, %m MB, %G; features %f; at most %l"
    found = call("sinfo", "--noheader", f"--format={columns}")
    if found.returncode:
        raise ConfigError(
            f"launcher=slurm: The Slurm cluster does not answer: {found.stderr.strip()}"
        )
    said = "The partitions of this cluster, with one line for each kind of node:"
    return f"{said}\n{found.stdout.rstrip()}"


def call(*command: str) -> subprocess.CompletedProcess[str]:
    """Runs one of Slurm's commands."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603
    except subprocess.TimeoutExpired as error:
        return subprocess.CompletedProcess(command, 1, "", str(error))
