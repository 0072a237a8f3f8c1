"""The origin of runs: the commit, uncommitted changes, the machine and its packages."""

from __future__ import annotations

import getpass
import json
import platform
import shutil
import subprocess
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from dlsweep.errors import StudyError
from dlsweep.folders.reading import read_json
from dlsweep.folders.rundir import write_atomically
from dlsweep.security.secrets import scrub

#: The files in a study folder, or in the folder of a single run.
ORIGIN, DIFF = "origin.json", "diff.patch"


def record(folder: Path) -> None:
    """Writes the origin of a folder's runs, once. The code is that of the current folder.

    Passwords in URLs and secrets of the environment are left out.
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
    """Reads what :func:`record` has written; empty if there is nothing.

    Raises:
        StudyError: If the file is damaged.
    """
    file = folder / ORIGIN
    known = read_json(file) if file.exists() else {}
    if not isinstance(known, dict):
        raise StudyError(f"{file} is damaged: it is not a JSON object.")
    return known


def _git(*arguments: str) -> str:
    """Returns git's output, or an empty string without git or a repository."""
    git = shutil.which("git")
    if git is None:
        return ""
    done = subprocess.run([git, *arguments], capture_output=True, check=False)  # noqa: S603
    return done.stdout.decode(errors="replace").strip() if done.returncode == 0 else ""
