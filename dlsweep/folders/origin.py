"""Where runs come from: the commit, what is not committed, the machine and its packages."""

from __future__ import annotations

import getpass
import json
import platform
import shutil
import subprocess
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from dlsweep.folders.rundir import write_atomically
from dlsweep.security.secrets import scrub

#: The files in the folder of a study, or of a run that is no trial.
ORIGIN, DIFF = "origin.json", "diff.patch"


def record(folder: Path) -> None:
    """Writes, once, where the runs in a folder come from; the code is that of the current folder.

    Passwords in addresses and the secrets of the environment are left out.
    """
    if (folder / ORIGIN).exists():
        return
    commit = _git("rev-parse", "HEAD")
    diff = scrub(_git("diff", "HEAD")) if commit else ""
    if diff:
        write_atomically(folder / DIFF, diff + "\n")
    origin = {
        "commit": commit,
        "has_changes": bool(diff),
        "remote": scrub(_git("remote", "get-url", "origin")),
        "host": platform.node(),
        "user": getpass.getuser(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "packages": dict(sorted({one.name: one.version for one in distributions()}.items())),
    }
    write_atomically(folder / ORIGIN, json.dumps(origin, indent=1))


def read(folder: Path) -> dict[str, Any]:
    """What :func:`record` has written; empty if it has not."""
    file = folder / ORIGIN
    return dict(json.loads(file.read_text())) if file.exists() else {}


def _git(*arguments: str) -> str:
    """What git says, or nothing where there is no git or no repository."""
    git = shutil.which("git")
    if git is None:
        return ""
    done = subprocess.run([git, *arguments], capture_output=True, check=False)  # noqa: S603
    return done.stdout.decode(errors="replace").strip() if done.returncode == 0 else ""
