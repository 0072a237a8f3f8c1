"""The user's code: which files it is, and a digest of them to compare nodes by."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

#: The files that decide what a trial does.
_SUFFIXES = (".py", ".yaml", ".yml")


def code_files(project: Path) -> list[Path]:
    """Returns a project's code and YAML files, relative to it, without what git ignores."""
    command = ["git", "-C", str(project), "ls-files", "-co", "--exclude-standard", "-z"]
    try:
        listed = subprocess.run(command, capture_output=True, check=True).stdout  # noqa: S603
        names: Iterator[str] = (os.fsdecode(name) for name in listed.split(b"\0") if name)
    except (OSError, subprocess.CalledProcessError):  # no git, or no repository
        names = _walk(project)
    return sorted(Path(name) for name in names if name.endswith(_SUFFIXES))


def digest_of(project: Path, files: Sequence[str]) -> str:
    """Returns a digest of a project's files, by name and content; a missing one counts as empty."""
    digest = hashlib.sha256()
    for name in files:
        file = project / name
        content = file.read_bytes() if file.is_file() else b""
        digest.update(f"{name}\0{hashlib.sha256(content).hexdigest()}\n".encode())
    return digest.hexdigest()


def _walk(project: Path) -> Iterator[str]:
    """Yields files by name, without hidden folders, virtual environments and run folders."""
    for folder, below, names in os.walk(project):
        here = Path(folder)
        below[:] = [name for name in below if not name.startswith(".") and _is_code(here / name)]
        yield from (str((here / name).relative_to(project)) for name in names)


def _is_code(folder: Path) -> bool:
    marks = ("pyvenv.cfg", "study.json", "run.json", "runs", "trials")
    return folder.name != "__pycache__" and not any((folder / mark).exists() for mark in marks)
