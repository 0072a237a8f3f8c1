"""Servers that dlsweep may contact: those that a command of the user has named.

A study folder or run folder may come from anybody, and its record contains the addresses of its
trackers and its storage. Contacting them could send tokens and environment variables to a
stranger's server. So an address from a folder is only used if it is a file beside the folder, or if
a command of the user has named it before. These addresses are stored in a list, one on each line.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dlsweep.errors import ConfigError

#: The keys of a record that contain addresses.
_KEYS = ("tracking", "storage")
_SQLITE = "sqlite:///"
#: A study folder is in ``outputs``; a run folder is two levels deeper.
_ABOVE = 3


def remember(record: Mapping[str, Any], folder: Path) -> None:
    """Stores the addresses that a command has named.

    Args:
        record: Contains ``tracking``, ``storage`` or both, as in ``study.json``.
        folder: The study folder or the run folder.

    Raises:
        ConfigError: If the list cannot be written.
    """
    new = sorted({*_addresses(record, folder)} - _known())
    if not new:
        return
    file = _list()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a") as known:
            known.write("".join(f"{address}\n" for address in new))
    except OSError as error:
        raise ConfigError(
            f"{file} cannot be written: {error.strerror}. It stores the addresses that you "
            "have named.\nGive another folder with  export XDG_STATE_HOME=/some/folder"
        ) from None


def refuse_unknown(record: Mapping[str, Any], folder: Path) -> None:
    """Checks that a command of the user has named every address in a record.

    Args:
        record: As for :func:`remember`.
        folder: As for :func:`remember`.

    Raises:
        ConfigError: If there is an unknown address.
    """
    known = _known()
    for address in _addresses(record, folder):
        if address not in known:
            raise ConfigError(
                f"{folder} names {address}, which no command of yours has named.\n"
                "Nothing is sent there, because a folder may come from anybody. If it is yours, "
                f"add this line to {_list()}:\n  {address}"
            )


def is_named(address: str) -> bool:
    """Whether a command of the user has named an address, as an option of anything."""
    return any(line.partition("=")[2] == address for line in _known())


def _addresses(record: Mapping[str, Any], folder: Path) -> Iterator[str]:
    """Yields each address as ``key=value``, as on a command line."""
    for key in _KEYS:
        for path, value in _texts(record.get(key), key):
            if "${" in value or ("://" in value and not _is_beside(value, folder)):
                yield f"{path}={value}"


def _texts(node: object, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, Mapping):
        for name, value in node.items():
            yield from _texts(value, f"{path}.{name}")
    elif isinstance(node, str):
        yield path, node


def _is_beside(address: str, folder: Path) -> bool:
    """Whether an address is a database file beside the folder."""
    path = Path(address.removeprefix(_SQLITE))
    above = [folder, *folder.parents[:_ABOVE]]
    return address.startswith(_SQLITE) and path.parent in above and not path.is_symlink()


def _list() -> Path:
    home = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return home / "dlsweep" / "addresses"


def _known() -> set[str]:
    try:
        return set(_list().read_text().splitlines())
    except (FileNotFoundError, NotADirectoryError):
        return set()
