"""Waits for a trial that an earlier driver has left running."""

from __future__ import annotations

from collections.abc import Callable

from dlsweep.errors import StudyError
from dlsweep.folders.lock import Lock
from dlsweep.folders.rundir import RunDir

#: How long a killed process may take to disappear, in seconds.
_DEATH_PATIENCE = 10.0


def wait_for_orphan(folder: RunDir, grace: float, say: Callable[[str], None]) -> None:
    """Lets a trial that an earlier driver left running save and end, or kills it in the end.

    One on another host cannot be killed. Its lock is removed: it is behind the fence of
    :mod:`dlsweep.folders.attempt` as soon as the next attempt begins.

    Args:
        folder: The run folder.
        grace: Seconds for the trial to save and end.
        say: Prints that it is waited for.

    Raises:
        StudyError: If the killed process does not disappear.
    """
    lock = Lock(folder.lock_file)
    if lock.acquire():
        lock.release()
        return
    say(f"{folder.path.name} is still ending: {lock.holder()} …")
    if not lock.wait(grace) and lock.is_held_here:
        lock.kill_holder()
        if not lock.wait(_DEATH_PATIENCE):
            raise StudyError(f"{folder.path} is still being trained by {lock.holder()}.")
    lock.release()
    folder.lock_file.unlink(missing_ok=True)
