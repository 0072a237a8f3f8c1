"""A lock on a folder, held by a real process."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from dlsweep.folders.lock import Lock

_HOLDS = """
import sys
from pathlib import Path
from dlsweep.folders.lock import Lock
lock = Lock(Path(sys.argv[1]))
print(lock.acquire(), flush=True)
sys.stdin.read()
"""


def test_a_lock_names_its_holder_and_is_free_when_that_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDS, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout
    assert holder.stdout.readline() == "True\n"
    lock = Lock(path)
    assert not lock.acquire()
    assert not lock.wait(0.2)
    who = lock.holder()
    assert re.fullmatch(rf"process {holder.pid} on \S+ since \d{{4}}-\d\d-\d\d [\d:]{{8}}", who)
    holder.kill()
    holder.communicate()
    assert lock.wait(5)
    assert f"process {os.getpid()} on " in lock.holder()
    lock.release()
    assert lock.acquire()
    lock.release()
