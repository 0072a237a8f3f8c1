"""A worker: runs one trial after another on a node of a cluster, for a driver elsewhere.

Each slot on the cluster has a worker. It has a warm parent of its own, so a trial starts as quickly
as on the driver's machine. Worker and driver exchange messages, which are plain dictionaries with a
``kind``; what carries them depends on the cluster (:class:`Post`).

From the driver::

    run      argv, folder, attempt, is_streamed: starts a trial, when the one before has ended
    answer   notice, stop: the answer to a notice: a reason to stop, or None
    stop     reason: the trial should save and end
    kill     the trial is killed
    hello    a new driver asks for ``state``
    end      the worker ends
    unpack, part    the files of a trial, before it is started: see dlsweep.launchers.streaming

To the driver; what concerns a trial has its ``folder`` and ``attempt``::

    ready    about: what this node has; see :func:`facts`
    state    setup, about, and is_streamed: answers ``hello``; with the trial that runs, if one does
    notice   notice: the trial has logged its objective, and waits for the answer
    ended    code: the exit code of the trial
    leaves   the worker ends, after the trial that runs, if one does; it starts no other
    broken   error: why no trial can run here
    bytes, file, checkpoint    what a trial adds to its folder: see dlsweep.launchers.streaming

A worker outlives its driver for a while: the trial goes on, and a new driver adopts it. After
``patience`` seconds without a driver the trial saves and ends, and so does the worker.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import signal
import socket
import tempfile
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import dlsweep
from dlsweep.errors import DlsweepError
from dlsweep.folders.rundir import RunDir
from dlsweep.launchers.base import Job
from dlsweep.launchers.local import SlotLauncher
from dlsweep.launchers.packing import Packing
from dlsweep.launchers.snapshot import digest_of, take
from dlsweep.launchers.streaming import Sender, Unpacked
from dlsweep.machine.devices import Slot, gpu_names
from dlsweep.machine.memory import memory_limits

Message = dict[str, Any]
#: How long a worker waits for its trial, or without one for a message, in seconds.
_TURN, _IDLE_TURN = 0.02, 0.1
#: How often a worker looks for new files of a trial whose folder the driver does not see.
_LOOK_EVERY = 0.25
#: A driver that is silent for so long, in seconds, will not answer: the trial goes on without.
_ABSENT = 15.0
#: Packages whose versions must be those of the driver.
_PACKAGES = ("torch", "tensorflow", "tensorflow-cpu", "keras", "numpy", "hydra-core", "omegaconf")


def run_message(
    argv: Sequence[str], folder: RunDir, attempt: int, code: Path | None, is_streamed: bool = False
) -> Message:
    """Returns the message that starts a trial."""
    return {
        "kind": "run",
        "argv": list(argv),
        "folder": str(folder.path),
        "attempt": attempt,
        "is_streamed": is_streamed,
        "code": code and str(code),
    }


class Post(ABC):
    """What carries messages between a worker and its driver, in their order."""

    #: Whether more of a trial's files may be sent now, or the driver must first take others.
    has_room = True

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
        token: The name of a file there, by which a node shows that it sees the same folder.
        project: The driver's current folder, which must exist on each node.
        code: The user's code and YAML files there, by their relative paths.
        digest: The digest of these files on the driver's machine.
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
    code: Sequence[str]
    digest: str
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
        launcher: Makes the launcher that starts its trials.
    """

    def __init__(
        self, setup: Setup, post: Post, launcher: Callable[..., SlotLauncher] = SlotLauncher
    ) -> None:
        self._setup = setup
        self._post = post
        self._make_launcher = launcher
        self._launcher: SlotLauncher | None = None
        self._waiting: Message | None = None
        self._unpacked: Unpacked | None = None
        self._job: Job | None = None
        self._trial: Message = {}
        self._sender: Sender | None = None
        self._looked = 0.0
        self._notice = 0
        self._is_asking = False
        self._answer: Message | None = None
        self._must_leave = False
        self._is_over = False
        self._snapshot: Path | None = None

    def serve(self) -> None:
        """Runs trials until the driver ends this worker, or is gone for too long."""
        try:
            launcher = self._begin()
            while not self._is_over or self._job:
                self._hear(0.0 if self._job else _IDLE_TURN)
                self._start_waiting(launcher)
                launcher.wait(_TURN if self._job else 0.0)
                self._report()
        except DlsweepError as error:
            self._break(str(error))
        except Exception:  # noqa: BLE001 - whatever ends this worker, the driver must hear of it
            self._break(traceback.format_exc(limit=-3))
        finally:
            if self._launcher:
                self._launcher.close()
            if self._unpacked:
                self._unpacked.remove()

    def preempt(self) -> None:
        """Asks the running trial to save and end, because the node wants its devices back.

        A signal handler may call it.
        """
        self._must_leave = True

    def _begin(self) -> SlotLauncher:
        os.chdir(self._setup.project)
        slot = Slot(tuple(gpu_names()) if self._setup.gpus else (), self._setup.cpus)
        self._launcher = self._make_launcher(
            Packing([slot]), self._setup.start, self._setup.preload, self._setup.env
        )
        self._launcher.start(self._judge, Path(self._setup.study))
        self._post.send({"kind": "ready", "about": self._about()})
        return self._launcher

    def _about(self) -> Message:
        assert self._launcher
        return {**facts(self._setup), "others": list(self._launcher.others)}

    def _break(self, error: str) -> None:
        text = f"The node {socket.gethostname()} can run no trial. {error}"
        self._post.send({"kind": "broken", "error": text})

    def _hear(self, seconds: float) -> None:
        for message in self._post.receive(seconds):
            getattr(self, f"_on_{message['kind']}")(message)
        if self._must_leave or self._post.silence > self._setup.patience:
            self._leave()

    def _leave(self) -> None:
        if self._is_over:
            return
        self._is_over = True
        self._post.send(self._of_trial("leaves"))
        if self._job:
            self._job.stop("preempted")

    def _on_run(self, message: Message) -> None:
        self._waiting = message

    def _on_unpack(self, message: Message) -> None:
        self._unpacked = Unpacked(RunDir(message["folder"]))

    def _on_part(self, message: Message) -> None:
        assert self._unpacked
        self._unpacked.write(message)

    def _on_answer(self, message: Message) -> None:
        if message["notice"] == self._notice:
            self._answer = message

    def _on_stop(self, message: Message) -> None:
        if self._job:
            self._job.stop(message["reason"])

    def _on_kill(self, _: Message) -> None:
        if message := self._waiting:  # it has not started
            self._waiting = None
            trial = {key: message[key] for key in ("folder", "attempt")}
            self._post.send({"kind": "ended", **trial, "code": -signal.SIGKILL})
        elif self._job:
            self._job.kill()

    def _on_end(self, _: Message) -> None:
        self._is_over = True
        if self._job:
            self._job.kill()

    def _on_hello(self, _: Message) -> None:
        state = {"setup": asdict(self._setup), "about": self._about()}
        self._post.send(self._of_trial("state", is_streamed=self._sender is not None, **state))
        if self._is_asking:
            self._post.send(self._of_trial("notice", notice=self._notice))

    def _start_waiting(self, launcher: SlotLauncher) -> None:
        if self._waiting is None or self._job or self._is_over:
            return  # the driver has been told
        message, self._waiting = self._waiting, None
        self._trial = {key: message[key] for key in ("folder", "attempt")}
        folder, argv = RunDir(message["folder"]), message["argv"]
        if message["is_streamed"]:
            assert self._unpacked
            folder, argv = self._unpacked.folder, self._unpacked.here(argv)
            self._sender = Sender(folder, self._send_file, lambda: self._post.has_room)
        launcher.code = self._code(message["code"])
        self._job = launcher.submit(argv, folder)

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

    def _send_file(self, message: Message) -> None:
        self._post.send({**self._trial, **message})

    def _of_trial(self, kind: str, **more: Any) -> Message:
        return {"kind": kind, **(self._trial if self._job else {}), **more}

    def _judge(self, _: RunDir) -> str | None:
        """Asks the driver for its verdict; called while the trial waits."""
        if self._sender:
            self._sender.send_records()
        self._notice += 1
        self._is_asking, self._answer = True, None
        self._post.send(self._of_trial("notice", notice=self._notice))
        while self._answer is None and not self._is_over and self._post.silence < _ABSENT:
            self._hear(0.05)
        self._is_asking = False
        if self._answer:
            return str(self._answer["stop"]) if self._answer["stop"] else None
        return "preempted" if self._is_over else None

    def _report(self) -> None:
        if self._job is None:
            return
        code = self._job.poll()
        if self._sender and not self._send_files(is_over=code is not None):
            return
        if code is not None:
            self._post.send(self._of_trial("ended", code=code))
            self._job = self._sender = None
            if self._unpacked:
                self._unpacked.remove()
                self._unpacked = None

    def _send_files(self, is_over: bool) -> bool:
        """Sends new files of the trial; returns whether it can be forgotten, once it is over."""
        assert self._sender
        if self._post.silence > self._setup.patience:
            return True  # nobody will take them
        if not is_over and time.monotonic() - self._looked < _LOOK_EVERY:
            return True
        self._looked = time.monotonic()
        return self._sender.send(is_over) or not is_over


def facts(setup: Setup) -> dict[str, Any]:
    """Returns what must be the same on all nodes, and what this one has for itself.

    That is whether it sees the study folder, and the memory that a trial may use here.
    """
    project = Path(setup.project)
    return {
        "host": socket.gethostname(),
        "has_project": project.is_dir(),
        "shares": (Path(setup.study) / setup.token).is_file(),
        "versions": versions(),
        "digest": digest_of(project, setup.code),
        "memory": memory_limits(),
    }


def versions() -> dict[str, str]:
    """Returns the versions of Python, dlsweep and the packages that decide a trial's results."""
    found = {"python": platform.python_version(), "dlsweep": dlsweep.__version__}
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)  # of the one that is imported
    return found
