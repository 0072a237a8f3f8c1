"""Makes text safe to print and to store: it may contain terminal commands or lone surrogates."""

from __future__ import annotations

import re

#: Control characters but tab and newline; a terminal takes some as commands.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def printable(text: str) -> str:
    """Replaces control characters by their escape sequences; keeps tabs and newlines."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def encodable(text: str) -> str:
    """Replaces lone surrogates, as in undecodable file names, by their escape sequences."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
