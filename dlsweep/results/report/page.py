"""Writes the report: one HTML file with its data, its style and its scripts."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from string import Template
from typing import Any

from dlsweep import __version__
from dlsweep.errors import ConfigError
from dlsweep.folders.rundir import write_atomically
from dlsweep.folders.studydir import StudyDir
from dlsweep.results.report.compare import compared
from dlsweep.results.report.data import study_data
from dlsweep.results.tables import Finished
from dlsweep.security.printable import printable

_ASSETS = Path(__file__).parent / "assets"
#: In their order: a script uses what earlier ones define.
_SCRIPTS = ("echarts.min.js", "format.js", "table.js", "charts.js", "relations.js", "report.js")
#: Characters that could end the element which holds the data.
_ESCAPES = {ord(one): f"\\u{ord(one):04x}" for one in "<>&"}
#: What each page begins with, so that a page may be replaced and no other file is.
_MARK = "<!DOCTYPE html>\n<!-- A report of dlsweep -->\n"
_LONGEST_TITLE = 200


def main(folders: Sequence[Path], out: Path | None) -> Path:
    """The verb ``report --html``: writes the page of these studies; returns its file.

    Args:
        folders: The study folders.
        out: The file; None means ``report.html``, in the study's folder if there is one study.

    Raises:
        StudyError: If a folder is not a study's, or a file of it is damaged.
        ConfigError: If the file exists and is not a report, or cannot be written.
    """
    found = [StudyDir(path) for path in dict.fromkeys(folder.resolve() for folder in folders)]
    path = out or (found[0].report if len(found) == 1 else Path(found[0].report.name))
    if path != found[0].report:
        _check(path)
    studies = [Finished(folder) for folder in found]
    try:
        write_page(studies, path)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written: {error.strerror}.\n"
            "Give another with  --out some/report.html"
        ) from None
    return path


def write_page(studies: Sequence[Finished], path: Path) -> None:
    """Writes the report of one study, or of several side by side.

    Args:
        studies: The studies.
        path: The HTML file, which is replaced.

    Raises:
        StudyError: If a file of a study is damaged.
        OSError: If the file cannot be written.
    """
    write_atomically(path, page(page_data(studies, path.parent)))


def page_data(studies: Sequence[Finished], beside: Path | None) -> dict[str, Any]:
    """Returns all that a page shows, as plain JSON values.

    Args:
        studies: The studies.
        beside: The folder of the page, from which links lead to the trials' folders; None for a
            page that a server sends.
    """
    labels = _labels([study.folder for study in studies])
    entries = []
    for study, label in zip(studies, labels, strict=True):
        link = f"{study.folder.path.as_uri()}/" if beside else None
        if beside and study.folder.path == beside.absolute():
            link = ""
        entries.append({**study_data(study), "label": label, "link": link})
    several = len(studies) > 1
    data = {"studies": entries, "compared": compared(studies, labels) if several else []}
    return dict(_shown(data))


def page(data: dict[str, Any], live: str = "") -> str:
    """Returns the HTML of a page.

    Args:
        data: As from :func:`page_data`.
        live: The address of fresh data, for a page that a server sends.
    """
    scripts = [_asset(name) for name in _SCRIPTS]
    hashes = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
    title = ", ".join(study["label"] for study in data["studies"])
    return _MARK + Template(_asset("page.html")).substitute(
        title=_ascii(title[:_LONGEST_TITLE]),
        hashes=hashes,
        connect="'self'" if live else "'none'",
        live=_ascii(live),
        version=_ascii(__version__),
        style=_asset("page.css"),
        data=json.dumps(data, separators=(",", ":"), allow_nan=False).translate(_ESCAPES),
        scripts="\n".join(f"<script>{script}</script>" for script in scripts),
    )


def _ascii(text: str) -> str:
    """Escapes a text for HTML in whatever encoding the file is written."""
    return html.escape(text).encode("ascii", "xmlcharrefreplace").decode()


@cache
def _asset(name: str) -> str:
    return (_ASSETS / name).read_text("ascii")


@cache
def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _labels(folders: Sequence[StudyDir]) -> list[str]:
    """Returns the folders' names, with as many folders above as it takes to tell them apart."""
    paths = [folder.path.parts for folder in folders]
    for depth in range(1, max(map(len, paths))):
        labels = ["/".join(parts[-depth:]) for parts in paths]
        if len({*labels}) == len(labels):
            return labels
    return [str(folder.path) for folder in folders]


def _shown(value: Any) -> Any:
    """Replaces control characters in all texts, which a page would not show."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {_shown(key): _shown(one) for key, one in value.items()}
    if isinstance(value, list) and any(isinstance(one, str | dict | list) for one in value):
        return [_shown(one) for one in value]
    return value


def _check(path: Path) -> None:
    """Checks that a file may be replaced.

    Raises:
        ConfigError: If it is not a report of dlsweep, or its folder does not exist.
    """
    if not path.parent.is_dir():
        raise ConfigError(
            f"{path.parent} is not a folder.\nGive another file with  --out some/report.html"
        )
    if not path.exists():
        return
    if path.is_file():
        with path.open("rb") as file:
            if file.read(len(_MARK)) == _MARK.encode():
                return
    raise ConfigError(
        f"{path} exists and is not a report of dlsweep.\n"
        "Give another file with  --out some/report.html"
    )
