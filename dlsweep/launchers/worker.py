"""A worker: runs one trial after another on a node of a cluster, for a driver elsewhere.

Each slot on the cluster has a worker. It has a warm parent of its own, so a trial starts as quickly
as on the driver's machine. Worker and driver exchange messages, which are plain dictionaries with a
``kind``; what carries them depends on the cluster (:class:`Post`).

From the driver::

    run      argv, folder, attempt; files, if the node does not see the driver's folder
    answer   stop: the reason to stop, or None: the answer to ``notice``
    stop     reason: the trial should save and end
    kill     the trial is killed
    hello    a new driver asks for ``state``
    end      the worker ends

To the driver::

    ready    about: what this node has; see :func:`facts`
    notice   the trial has logged its objective, and waits for the answer
    ended    code: the exit code of the trial
    state    folder, attempt: what is running here, or None
    leaves   folder: what is running here, or None; it saves and ends, and so does the worker
    broken   error: why no trial can run here
    ...      and the files of a trial, see dlsweep.launchers.streaming

A worker outlives its driver for a while: the trial goes on, and a new driver adopts it. After
``patience`` seconds without a driver the trial saves and ends, and so does the worker.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import socket
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import dlsweep
from dlsweep.errors import DlsweepError
from dlsweep.folders.rundir import RunDir
from dlsweep.launchers.base import Job
from dlsweep.launchers.local import SlotLauncher
from dlsweep.launchers.snapshot import code_digest, take
from dlsweep.launchers.streaming import Sender, unpack
from dlsweep.machine.devices import Slot, gpu_names

Message = dict[str, Any]
#: How long a worker waits for its trial before it looks for messages, in seconds.
_TURN = 0.01
#: Packages whose versions must be those of the driver.
_PACKAGES = ("torch", "tensorflow", "tensorflow-cpu", "keras", "numpy", "hydra-core", "omegaconf")


class Post(ABC):
    """What carries messages between a worker and its driver."""

    @abstractmethod
    def send(self, message: Message) -> None:
        """Sends a message to the driver."""

    @abstractmethod
    def receive(self, seconds: float) -> list[Message]:
        """Waits at most that long for messages of the driver."""

    @property
    @abstractmethod
    def silence(self) -> float:
        """Seconds since the driver has last given a sign of life."""


@dataclass(frozen=True)
class Setup:
    """What a worker is started with; plain values only.

    Attributes:
        study: The study folder on the driver's machine.
        token: The content of a file there, by which a node shows that it sees the same folder.
        project: The driver's current folder, which must exist on each node.
        cpus: CPU threads of a trial.
        gpus: Whether a trial has GPUs; which ones, the cluster has set in the environment.
        start: As in the local launcher.
        preload: As in the local launcher.
        env: As in the local launcher.
        patience: Seconds that a worker outlives its driver.
    """

    study: str
    token: str
    project: str
    cpus: int
    gpus: bool
    start: Literal["warm", "fresh"]
    preload: Sequence[str]
    env: Mapping[str, str]
    patience: float


class Worker:
    """Runs trials for a driver elsewhere.

    Args:
        setup: What it is started with.
        post: What carries its messages.
    """

    def __init__(self, setup: Setup, post: Post) -> None:
        self._setup = setup
        self._post = post
        self._job: Job | None = None
        self._sender: Sender | None = None
        self._run: Message = {}
        self._asked = False
        self._answer: Message | None = None
        self._is_over = False
        self._must_leave = False
        self._snapshot: Path | None = None

    def serve(self) -> None:
        """Runs trials until the driver ends this worker, or is gone for too long."""
        try:
            self._begin()
            while not self._is_over or self._job:
                self._hear(0.0)
                self._launcher.wait(_TURN)
                self._report()
        except DlsweepError as error:
            self._post.send({"kind": "broken", "error": str(error)})
        finally:
            if hasattr(self, "_launcher"):
                self._launcher.close()

    def preempt(self) -> None:
        """Asks the running trial to save and end, because the node wants its devices back.

        A signal handler may call it.
        """
        self._must_leave = True

    def _begin(self) -> None:
        try:
            os.chdir(self._setup.project)
        except OSError as error:
            raise DlsweepError(
                f"The node {socket.gethostname()} has no folder {self._setup.project}: "
                f"{error.strerror}.\nStart the sweep from a folder that all nodes see."
            ) from None
        slot = Slot(tuple(gpu_names()) if self._setup.gpus else (), self._setup.cpus)
        self._launcher = SlotLauncher(
            [slot], self._setup.start, self._setup.preload, self._setup.env
        )
        self._launcher.start(self._judge, Path(self._setup.study))
        self._post.send({"kind": "ready", "about": facts(self._setup)})

    def _hear(self, seconds: float) -> None:
        for message in self._post.receive(seconds):
            getattr(self, f"_on_{message['kind']}")(message)
        if self._must_leave or self._post.silence > self._setup.patience:
            self._leave()

    def _leave(self) -> None:
        if self._is_over:
            return
        self._is_over = True
        running = self._run["folder"] if self._job else None
        self._post.send({"kind": "leaves", "folder": running})
        if self._job:
            self._job.stop("preempted")

    def _on_run(self, message: Message) -> None:
        if self._is_over:
            return  # the driver has been told
        folder, argv = RunDir(message["folder"]), message["argv"]
        self._run = message
        if "files" in message:
            argv, folder = unpack(message, folder)
            self._sender = Sender(folder, self._post.send)
        self._launcher.code = self._code(message["code"])
        self._job = self._launcher.submit(argv, folder)

    def _code(self, there: str | None) -> Path | None:
        """Returns the snapshot that a trial imports from; this node's own if it sees no other."""
        if there is None:
            return None
        if Path(there).exists():
            return Path(there)
        if self._snapshot is None:
            here = Path(tempfile.mkdtemp(prefix="dlsweep-code-"))
            self._snapshot = take(Path(self._setup.project), here)
        return self._snapshot

    def _on_answer(self, message: Message) -> None:
        self._answer = message

    def _on_stop(self, message: Message) -> None:
        if self._job:
            self._job.stop(message["reason"])

    def _on_kill(self, _: Message) -> None:
        if self._job:
            self._job.kill()

    def _on_end(self, _: Message) -> None:
        self._is_over = True
        if self._job:
            self._job.kill()

    def _on_hello(self, _: Message) -> None:
        about = {key: self._run.get(key) if self._job else None for key in ("folder", "attempt")}
        self._post.send({"kind": "state", "is_streamed": self._sender is not None, **about})
        if self._asked:
            self._post.send({"kind": "notice"})

    def _judge(self, _: RunDir) -> str | None:
        """Asks the driver for its verdict; called while the trial waits."""
        if self._sender:
            self._sender.send()
        self._asked, self._answer = True, None
        self._post.send({"kind": "notice"})
        while self._answer is None and not self._is_over:
            self._hear(0.05)
        self._asked = False
        return self._answer["stop"] if self._answer else "preempted"

    def _report(self) -> None:
        if self._job is None:
            return
        code = self._job.poll()
        if self._sender:
            self._sender.send(is_over=code is not None)
        if code is not None:
            self._job = self._sender = None
            self._post.send({"kind": "ended", "code": code, "attempt": self._run["attempt"]})


def facts(setup: Setup) -> dict[str, Any]:
    """Returns what must be the same on all nodes, and whether this one sees the study folder."""
    probe = Path(setup.study) / setup.token
    return {
        "host": socket.gethostname(),
        "shares": probe.is_file(),
        "versions": versions(),
        "code": code_digest(Path(setup.project)),
    }


def versions() -> dict[str, str]:
    """Returns the versions of Python, dlsweep and the packages that decide a trial's results."""
    found = {"python": platform.python_version(), "dlsweep": dlsweep.__version__}
    installed = {one.name.lower(): one.version for one in importlib.metadata.distributions()}
    return found | {name: installed[name] for name in _PACKAGES if name in installed}
