"""SQLite URLs of database files, for folders with any legal name."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote, unquote

_SCHEME = "sqlite:///"
#: Characters with a meaning in a database URL, or in Optuna, which formats one with braces.
_ODD = "?%{}"


def sqlite_url(path: Path) -> str:
    """Returns the URL of a database file for SQLAlchemy and Optuna."""
    return f"{_SCHEME}{path if is_plain(path) else quote(str(path))}"


def sqlite_path(url: str) -> Path | None:
    """Returns the database file of a URL; None if it is not an SQLite file."""
    if not url.startswith(_SCHEME):
        return None
    return Path(unquote(url.removeprefix(_SCHEME).partition("?")[0]))


def is_plain(path: Path) -> bool:
    """Whether a path can stand in a URL as it is."""
    return not any(character in str(path) for character in _ODD)
