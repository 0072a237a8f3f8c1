"""The page of errors: the families, and every sentence that the code raises."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from dlsweep import errors
from reference import NOTE, ROOT, table

_INTRO = f"""{NOTE}

# Every error message

The sentences that dlsweep ends with, as its code has them; `…` stands for a name or a value.
Each says what it received, what it expected, and what to type. [Errors](errors.md) explains the
kinds and shows examples.
"""


def page() -> str:
    """Returns the page."""
    found = messages()
    kinds = [name for name, kind in vars(errors).items() if _is_error(kind) and name in found]
    parts = [_INTRO]
    for kind in kinds:
        about = (getattr(errors, kind).__doc__ or "").strip()
        rows = [(f"`{topic}`", _shown(text)) for topic, text in sorted(found[kind])]
        parts.append(f"## {kind}\n\n{about}\n\n" + table(("in", "message"), rows))
    return "\n\n".join(parts) + "\n"


def _is_error(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, errors.DlsweepError)


def messages() -> dict[str, set[tuple[str, str]]]:
    """Returns the topic and the text of each message, by the name of its class."""
    found: dict[str, set[tuple[str, str]]] = {}
    for file in sorted((ROOT / "dlsweep").rglob("*.py")):
        topic = _topic(file)
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                name, text = getattr(node.exc.func, "id", ""), _text(node.exc.args[:1])
                if text and _is_error(getattr(errors, name, None)):
                    found.setdefault(name, set()).add((topic, text))
    return found


def _topic(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts)


def _text(arguments: list[ast.expr]) -> str:
    """Returns a message with ``…`` in place of values; empty if it is made elsewhere."""
    if not arguments:
        return ""
    (message,) = arguments
    parts = message.values if isinstance(message, ast.JoinedStr) else [message]
    texts = [
        str(part.value) if isinstance(part, ast.Constant) else "…"
        for part in parts
        if isinstance(part, ast.Constant | ast.FormattedValue)
    ]
    text = re.sub(r"…+", "…", "".join(texts))
    return text if re.search(r"\w{3}", text) else ""


def _shown(text: str) -> str:
    """Returns a message for a table; the part to type after a line break."""
    escaped = text.strip().replace("&", "&amp;").replace("<", "&lt;").replace("|", "&#124;")
    escaped = re.sub(r"([*_`\[\]])", r"\\\1", escaped)
    return "<br>".join(line.strip() for line in escaped.splitlines())
