"""The manifest of a checkpoint: sizes and digests of its files, and which only a resume needs."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dlsweep.errors import StudyError
from dlsweep.folders.reading import read_json, read_text
from dlsweep.folders.rundir import write_atomically

MANIFEST = "manifest.json"
#: Its keys: the names of the files that only a resumed training needs, and, once they are removed,
#: the digest of the manifest before.
_RESUME_ONLY, _WHOLE = "resume_only", "whole"
#: The key with the lineage of a checkpoint that was copied from another run's.
INHERITED = "inherited"


def seal(folder: Path, facts: Mapping[str, Any], resume_only: list[str]) -> None:
    """Writes the manifest of a folder's files."""
    files = sorted(folder.iterdir())
    seals = {one.name: {"size": one.stat().st_size, "sha256": _digest(one)} for one in files}
    manifest = {**facts, _RESUME_ONLY: resume_only, "files": seals}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1))


def damage(path: Path, files: Mapping[str, Any]) -> str:
    """Returns what is wrong with a checkpoint's files, or an empty string."""
    for name, expected in files.items():
        file = path / name
        if not file.is_file() or file.resolve().parent != path.resolve():
            return f"{name} is missing"
        if file.stat().st_size != expected["size"]:
            return f"{name} has {file.stat().st_size} bytes, expected {expected['size']}"
        if _digest(file) != expected["sha256"]:
            return f"{name} does not match its sha256"
    return ""


def is_whole(manifest: Mapping[str, Any]) -> bool:
    """Whether a checkpoint still has what a resumed training needs."""
    return _WHOLE not in manifest


def resume_files(checkpoint: Path) -> list[Path]:
    """Returns the files of a checkpoint that only a resumed training needs.

    A checkpoint of an earlier version, or of code that names none, has no such files.
    """
    try:
        manifest = read_json(checkpoint / MANIFEST)
    except (FileNotFoundError, StudyError):
        return []
    names = manifest.get(_RESUME_ONLY, []) if isinstance(manifest, dict) else []
    own = [name for name in names if Path(str(name)).name == name and name != MANIFEST]
    return [checkpoint / name for name in own if (checkpoint / name).is_file()]


def slim(checkpoint: Path) -> None:
    """Removes what only a resumed training needs; a kill leaves a checkpoint that is valid."""
    files = resume_files(checkpoint)
    write_atomically(checkpoint / MANIFEST, slim_manifest(checkpoint))
    sync(checkpoint)
    for file in [*files, *checkpoint.glob(f"{MANIFEST}.*.tmp")]:  # of a kill while it was written
        file.unlink(missing_ok=True)


def slim_manifest(checkpoint: Path) -> str:
    """Returns the manifest that a checkpoint has once only its weights are left."""
    text = read_text(checkpoint / MANIFEST)
    manifest: dict[str, Any] = json.loads(text)
    if not is_whole(manifest) or not manifest.get(_RESUME_ONLY):
        return text
    gone = manifest[_RESUME_ONLY]
    files = {name: one for name, one in manifest["files"].items() if name not in gone}
    return json.dumps({**manifest, "files": files, _WHOLE: _sha256(text)}, indent=1)


def digest_of(checkpoint: Path) -> str:
    """Returns a digest over all files of a checkpoint; the same when only its weights are left."""
    text = read_text(checkpoint / MANIFEST)
    return str(json.loads(text).get(_WHOLE) or _sha256(text))


def sync(path: Path) -> None:
    """Syncs a file or a folder to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
