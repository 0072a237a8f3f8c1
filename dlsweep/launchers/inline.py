"""The inline launcher: runs trials in the driver's process, for a debugger."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from dlsweep.errors import ConfigError
from dlsweep.folders.rundir import RunDir
from dlsweep.launchers.base import Job, Judge, Launcher, environment_of
from dlsweep.launchers.program import run_python
from dlsweep.run.channel import CHANNEL_VARIABLE, Channel, DriverEnd


class InlineJob(Job):
    """A run that has ended before it is returned."""

    def __init__(self, folder: RunDir, code: int) -> None:
        self.folder = folder
        self.is_seen = False
        self._code = code

    def poll(self) -> int | None:
        """Returns the exit code."""
        self.is_seen = True
        return self._code

    def stop(self, reason: str) -> None:
        """Does nothing: the run has ended."""

    def kill(self) -> None:
        """Does nothing: the run has ended."""


class InlineLauncher(Launcher):
    """Runs trials one after another in this process. Their output goes to the terminal.

    Args:
        env: Environment variables, set before anything is imported.
    """

    is_beside = False

    def __init__(self, env: Mapping[str, str] = MappingProxyType({})) -> None:
        self._env = {name: str(value) for name, value in env.items()}
        self._judge: Judge = lambda _: None
        self._job: InlineJob | None = None

    def start(self, judge: Judge, folder: Path) -> None:  # noqa: ARG002 - of the interface
        """Sets the environment variables."""
        os.environ.update(self._env)
        self._judge = judge

    @property
    def free_slots(self) -> int:
        """1, or 0 until the end of the job before has been polled: the next may depend on it."""
        return 0 if self._job and not self._job.is_seen else 1

    def submit(self, argv: Sequence[str], folder: RunDir) -> Job:
        """Runs the job to its end."""
        if list(argv[:2]) != ["-m", "dlsweep"]:
            raise ConfigError(
                "launcher=inline runs dlsweep's own trials only.\n"
                "To debug an app of your own, run it once without -m."
            )
        wire = DriverEnd()
        os.environ[CHANNEL_VARIABLE] = str(os.dup(wire.child_descriptor))
        own = environment_of(folder)
        os.environ.update(own)
        wire.close_child()
        answering = threading.Thread(target=self._answer, args=(wire, folder), daemon=True)
        answering.start()
        try:
            code = run_python(list(argv))
        finally:
            for name in own:
                del os.environ[name]
            if unused := Channel.inherited():  # by a command other than a trial
                unused.close()
        answering.join()
        wire.close()
        self._job = InlineJob(folder, code)
        return self._job

    def wait(self, seconds: float) -> None:
        """Returns at once: no other process runs."""

    def close(self) -> None:
        """Does nothing: no process is left."""

    def _answer(self, wire: DriverEnd, folder: RunDir) -> None:
        while wire.read_notification(wait=None):
            wire.answer(self._judge(folder))
