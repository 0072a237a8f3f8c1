"""Where records may be sent: to addresses that a person's own commands have named.

A study's or a run's folder may have come from anybody, and names the trackers and the storage that
it is told to. Whoever believed it would send their tokens, and variables of their environment, to
a server of somebody else's. So what a folder names is believed only if it lies beside the folder,
or if a command has named it before; those are kept in a list, one a line.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dlsweep.errors import ConfigError

#: What a record says of where it is told to.
_KEYS = ("tracking", "storage")
_SQLITE = "sqlite:///"
#: A study lies in ``outputs``, a run of it two folders further down.
_ABOVE = 3


def remember(record: Mapping[str, Any], folder: Path) -> None:
    """Notes the addresses that a command has named.

    Args:
        record: With ``tracking`` and ``storage``, or one of them, as folders record them.
        folder: Of the study or of the run.

    Raises:
        ConfigError: If the list of them cannot be written.
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
            f"{file} cannot be written: {error.strerror}. It keeps the addresses that you have "
            "named.\nGive another folder with  export XDG_STATE_HOME=/some/folder"
        ) from None


def refuse_unknown(record: Mapping[str, Any], folder: Path) -> None:
    """Sees that a folder names no address that no command has named.

    Args:
        record: As for :func:`remember`.
        folder: Likewise.

    Raises:
        ConfigError: If it does.
    """
    known = _known()
    for address in _addresses(record, folder):
        if address not in known:
            raise ConfigError(
                f"{folder} names {address}, which no command of yours has named here.\n"
                "Nothing is sent there, as a folder may come from anybody. If it is yours, add "
                f"this line to {_list()}:\n  {address}"
            )


def _addresses(record: Mapping[str, Any], folder: Path) -> Iterator[str]:
    """Each as ``key=value``, as a command line has it."""
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
    """Whether it is a database in a folder above."""
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
