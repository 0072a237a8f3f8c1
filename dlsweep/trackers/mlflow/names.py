"""Names of metrics, params and tags in MLflow, which allows fewer characters than dlsweep."""

from __future__ import annotations

import hashlib
import posixpath
import re

_LONGEST = 250


def key(name: str) -> str:
    """Returns the name; one that MLflow does not allow is changed, and its hash keeps it apart."""
    allowed = posixpath.normpath(re.sub(r"[^\w.\-/ ]", "_", name)).lstrip("./")
    if allowed == name and len(name) <= _LONGEST:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:6]
    return f"{allowed[: _LONGEST - len(digest) - 1]}-{digest}"
