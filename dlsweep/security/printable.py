"""Makes text safe to print: a log or a reason of anybody's may contain terminal commands."""

from __future__ import annotations

import re

#: Control characters but tab and newline; a terminal takes some as commands.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def printable(text: str) -> str:
    """Replaces control characters by their escape sequences; keeps tabs and newlines."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
