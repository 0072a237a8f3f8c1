"""What makes two sweeps the same study: the space, the fixed values, and the study's folder."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from typing import Any

from dlsweep.errors import StudyChangedError, StudyError
from dlsweep.folders.database import sqlite_url
from dlsweep.folders.renamed import with_added_keys, with_todays_names
from dlsweep.folders.studydir import StudyDir
from dlsweep.security.secrets import scrub

#: Attributes of Optuna's study: what must not change between two calls, and whose study it is.
IDENTITY, FOLDER = "identity", "folder"


def identity_text(value: Any) -> str:
    """Returns a value's text in a study's identity."""
    return json.dumps(value, sort_keys=True, default=str)


def check_identity(
    name: str, attrs: Mapping[str, Any], wanted: Mapping[str, str], resolved: Mapping[str, str]
) -> None:
    """Checks that a stored study has this search space and these fixed values.

    Args:
        name: The study's name.
        attrs: The attributes of the stored study.
        wanted: The identity of this command's study.
        resolved: The text of each interpolation's value in it.

    Raises:
        StudyChangedError: If not; says what differs.
    """
    stored = attrs.get(IDENTITY)
    if stored is None:
        return
    stored = {key: with_todays_names(value) for key, value in stored.items()}
    stored = with_added_keys(stored, wanted)
    for key, value in resolved.items():
        if stored.get(key) == value:  # it was written as what it refers to now
            stored[key] = wanted[key]
    if stored != wanted:
        raise StudyChangedError(_difference(name, stored, wanted))


def owner_of(folder: StudyDir, storage: str | None) -> dict[str, str]:
    """Returns what a database stores about the folder; empty if it is in the folder itself."""
    if storage in (None, sqlite_url(folder.database)):
        return {}
    return {"id": folder.id, "path": f"{socket.gethostname()}:{folder.path}"}


def check_owner(
    name: str, storage: str | None, attrs: Mapping[str, Any], folder: StudyDir, trials: int
) -> None:
    """Checks that a stored study belongs to this folder, whose trials are those of the study.

    Args:
        name: The study's name.
        storage: The storage's URL.
        attrs: The attributes of the stored study.
        folder: The study folder.
        trials: How many trials are stored.

    Raises:
        StudyError: If it is another study of the same name.
    """
    where = scrub(storage or "")
    owner, ours = attrs.get(FOLDER), owner_of(folder, storage)
    if owner and ours and owner["id"] != ours["id"]:
        raise StudyError(
            f"The database {where} has a study {name!r} already. It belongs to another folder, "
            f"{owner['path']}.\n"
            "Give this one another name:  hydra.sweeper.study_name=<name>\n"
            "If that folder is gone and the study is not needed, remove it:  "
            f"optuna delete-study --study-name {name} --storage <the storage>"
        )
    if (last := folder.last_number()) is not None and last >= trials:
        raise StudyError(
            f"{folder.trials} contains trial {folder.name(last)}, and the study {name!r} in "
            f"{where} has {trials or 'no'} trials: it is not the study of this folder.\n"
            f"{_way_back(folder, where)}"
            "To start another study:   hydra.sweeper.study_name=<name>"
        )


def _way_back(folder: StudyDir, where: str) -> str:
    recorded = scrub(str(folder.info()["storage"])) if folder.info_file.exists() else where
    if recorded != where:
        return f"To resume it:             hydra.sweeper.storage={recorded}\n"
    return "To resume it:             restore that database\n"


def _difference(name: str, stored: Mapping[str, str], wanted: Mapping[str, str]) -> str:
    lines = [f"The study {name!r} exists and was created with another space or other fixed values:"]
    for key in sorted(stored.keys() | wanted.keys()):
        before, now = stored.get(key), wanted.get(key)
        if before != now:
            lines.append(f"  {key}: was {before or 'absent'}, is {now or 'absent'}")
    lines += [
        "To resume it:                   type the command as it was",
        "To keep it and start another:   hydra.sweeper.study_name=<a new name>",
        "To start it again:              remove its folder",
    ]
    return "\n".join(lines)
