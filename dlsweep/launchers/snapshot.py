"""Snapshots of the user's code: what trials import does not change while a sweep runs.

The code is the Python and YAML files below the current folder, without what git ignores. A sweep
copies them to ``code/<digest>`` in its study folder, and its trials import from there. Other files
beside the code are linked, so paths relative to a module still lead to the data. A file that
contains a secret is linked, too: no secret gets into the study folder.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from dlsweep.errors import ConfigError
from dlsweep.security.secrets import scrub

#: The environment variable with the folder that a trial imports the user's code from.
CODE_VARIABLE = "DLSWEEP_CODE"
#: The files that decide what a trial does.
_SUFFIXES = (".py", ".yaml", ".yml")
#: How many files a project without git may have; more are data, or somebody's home.
_MOST_FILES = 50_000
#: What makes a folder no code: a virtual environment, or the folder of runs.
_MARKS = ("pyvenv.cfg", "study.json", "run.json", "runs", "trials")


def take(project: Path, study: Path) -> Path | None:
    """Copies the code of a project to the study folder, by a name that tells its state.

    Args:
        project: The folder with the user's code, usually the current one.
        study: The study folder.

    Returns:
        The copy; None if the project has no code.

    Raises:
        ConfigError: If the folder is too large to be a project.
    """
    files = code_files(project)
    if not files:
        return None
    final = study / "code" / digest_of(project, sorted(map(str, files)))[:16]
    aside = final.with_name(f".{final.name}.{os.getpid()}")
    shutil.rmtree(aside, ignore_errors=True)
    folders = {Path(), *(parent for file in files for parent in file.parents)}
    for folder in sorted(folders):
        (aside / folder).mkdir(parents=True)
        for entry in (project / folder).iterdir():
            _put(entry, aside / folder / entry.name, entry.relative_to(project), files, folders)
    if final.exists():  # replaced, not trusted: anybody may have made the study folder
        final.rename(final.with_name(f".{final.name}.old.{os.getpid()}"))
    aside.rename(final)
    for old in final.parent.glob(".*.old.*"):
        shutil.rmtree(old)
    return final


def in_snapshot(argv: Sequence[str], project: Path, code: Path) -> list[str]:
    """Returns a command with its script's path in the snapshot, if the project has the script."""
    script = Path(argv[0])
    if script.is_relative_to(project) and (moved := code / script.relative_to(project)).exists():
        return [str(moved), *argv[1:]]
    return list(argv)


def code_files(project: Path) -> set[Path]:
    """Returns a project's Python and YAML files, relative to it, without what git ignores.

    Raises:
        ConfigError: If there is no git repository, and the folder is too large to be a project.
    """
    command = ["git", "-C", str(project), "ls-files", "-co", "--exclude-standard", "-z"]
    try:
        listed = subprocess.run(command, capture_output=True, check=True).stdout  # noqa: S603
        names: Iterator[str] = (os.fsdecode(name) for name in listed.split(b"\0") if name)
    except (OSError, subprocess.CalledProcessError):  # no git, or no repository
        names = _walk(project)
    paths = {Path(name) for name in names if name.endswith(_SUFFIXES)}
    folders = {folder for path in paths for folder in path.parents}
    others = {folder for folder in folders if folder.parts and not _is_code(project / folder)}
    return {path for path in paths if others.isdisjoint(path.parents) and _is_file(project / path)}


def digest_of(project: Path, files: Sequence[str]) -> str:
    """Returns a digest of a project's files, by name and content; a missing one counts as empty."""
    digest = hashlib.sha256()
    for name in files:
        file = project / name
        content = file.read_bytes() if file.is_file() else b""
        digest.update(f"{name}\0{hashlib.sha256(content).hexdigest()}\n".encode())
    return digest.hexdigest()


def _put(entry: Path, copy: Path, name: Path, files: set[Path], folders: set[Path]) -> None:
    if name in files and not _holds_secret(entry):
        shutil.copy2(entry, copy)
    elif name not in folders and _is_code(entry):
        copy.symlink_to(entry)


def _holds_secret(file: Path) -> bool:
    """Whether a file contains a secret, which must not get into the study folder."""
    text = file.read_text(errors="replace")
    return scrub(text) != text


def _is_file(path: Path) -> bool:
    """Whether it is a file, and not one of this package."""
    return path.is_file() and Path(__file__).parents[1] not in path.parents


def _walk(project: Path) -> Iterator[str]:
    """Yields files by name, without hidden folders, virtual environments and run folders."""
    seen = 0
    for folder, below, names in os.walk(project):
        here = Path(folder)
        below[:] = [name for name in below if _is_code(here / name)]
        seen += len(names)
        if seen > _MOST_FILES:
            raise ConfigError(
                f"The current folder {project} has more than {_MOST_FILES} files, and is no git "
                "repository.\nA sweep keeps a copy of the code in the current folder. Start it "
                "from the folder of the project, or make that a repository:  git init"
            )
        yield from (str((here / name).relative_to(project)) for name in names)


def _is_code(folder: Path) -> bool:
    if folder.name.startswith(".") or folder.name == "__pycache__":
        return False
    return not any((folder / mark).exists() for mark in _MARKS)
