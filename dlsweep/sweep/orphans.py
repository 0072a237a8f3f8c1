"""What an earlier driver has left: a trial that still runs, or a result that it has not seen."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import cast

from dlsweep.drive.driver import Verdict
from dlsweep.errors import StudyError
from dlsweep.folders.lock import Lock
from dlsweep.folders.rundir import UNFINISHED, Result, RunDir, Status

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


def unrecorded_result(folder: RunDir, judge: Verdict) -> Result | None:
    """Returns the result of a trial that ended after its driver was killed, if there is one."""
    result = folder.result()
    records = [record for record, _ in folder.records()]
    asked = folder.stop_reason()
    verdict = judge(records)
    if asked in ("pruned", "stopped"):  # asked again, a pruner may differ
        verdict = asked
    if result is not None and result.status not in UNFINISHED:
        return result
    if verdict is None:
        return None
    metrics = records[-1].metrics if records else {}
    result = Result(cast(Status, verdict), metrics=metrics, ended=time.time())
    folder.write_result(result)
    return result
