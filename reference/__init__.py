"""Writes the pages of docs/reference that are read from the code: ``make reference``.

A test compares the pages with the code, so they cannot drift.
"""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[1]
#: The first line of each page.
NOTE = (
    "<!-- Written by `make reference`. Change the code, the YAML or reference/, not this page. -->"
)


def code(text: str) -> str:
    """Returns a text as code of Markdown, safe in a table."""
    fence = "``" if "`" in text else "`"
    return fence + text.replace("|", "or").replace("\n", " ") + fence


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Returns a Markdown table."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
