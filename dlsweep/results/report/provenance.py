"""Where a study comes from: its machine, its packages, its data."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

from dlsweep.folders import origin
from dlsweep.folders.reading import read_json
from dlsweep.folders.rundir import RunDir
from dlsweep.folders.studydir import StudyDir

#: The packages whose versions decide what a training gives.
_PACKAGES = ("dlsweep", "torch", "tensorflow", "tensorflow-cpu", "keras", "numpy", "optuna")
#: What the page shows of a run's data.
_FACTS = ("name", "source", "examples", "input_shape", "classes", "task")
_LONGEST = 300


def environment(folder: StudyDir) -> list[list[str]]:
    """Returns pairs of a label and a text, from ``origin.json``; empty if there is none."""
    known = origin.read(folder.path)
    commit = str(known.get("commit") or "")
    if commit and known.get("has_changes"):
        commit += f", with changes: {origin.DIFF}"
    packages = known.get("packages")
    versions = packages if isinstance(packages, dict) else {}
    texts = {
        "commit": commit,
        "repository": known.get("remote"),
        "host": known.get("host"),
        "platform": known.get("platform"),
        "Python": known.get("python"),
        **{name: versions.get(name) for name in _PACKAGES},
    }
    return [[label, _short(text)] for label, text in texts.items() if text]


def data(runs: Iterable[RunDir]) -> list[dict[str, Any]]:
    """Returns each data set that runs have recorded: its facts, checksums and number of runs."""
    found: Counter[str] = Counter()
    for run in runs:
        file = run.path / "data.json"
        if file.exists():
            found[json.dumps(_facts(read_json(file)))] += 1
    return [{"runs": count, "facts": json.loads(text)} for text, count in found.most_common()]


def _facts(record: Any) -> list[list[str]]:
    if not isinstance(record, dict):
        return []
    facts = [[key, _short(record[key])] for key in _FACTS if record.get(key) is not None]
    digests = record.get("sha256") or {}
    named = digests if isinstance(digests, dict) else {"": digests}
    return facts + [[f"sha256 {name}".strip(), _short(digest)] for name, digest in named.items()]


def _short(value: Any) -> str:
    if isinstance(value, dict):
        text = ", ".join(f"{key}: {one}" for key, one in value.items())
    else:
        text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."
