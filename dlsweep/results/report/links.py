"""Where the trackers show a study's trials: links and commands for the report page."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dlsweep.errors import ConfigError
from dlsweep.folders.reading import read_json
from dlsweep.folders.rundir import RunDir
from dlsweep.folders.studydir import StudyDir
from dlsweep.security import addresses

#: The trackers of dlsweep; another's address is known to its own code alone.
_SHIPPED = ("mlflow", "tensorboard", "wandb", "csv")


def tracker_links(
    folder: StudyDir, tracking: Any, runs: Sequence[RunDir | None]
) -> list[dict[str, Any]]:
    """Returns a link or a command for each tracker of a study.

    Nothing is imported or called. A server that only the folder names is not linked.

    Args:
        folder: The study folder.
        tracking: The study's trackers, from ``study.json``.
        runs: The run folder of each row of the page's table; None where there is none.

    Returns:
        For each tracker its ``name`` and ``text``, and what it has of: ``command`` to paste;
        ``base``, an address, and ``ids``, what follows it for each row; ``files``, the folder of
        its files, relative to the study.
    """
    found = []
    for name, options in tracking.items() if isinstance(tracking, Mapping) else ():
        if name not in _SHIPPED or not isinstance(options, Mapping):
            continue
        try:
            addresses.refuse_unknown({"tracking": {name: options}}, folder.path)
            found.append({"name": name, **_place(name, folder.path, options, runs)})
        except ConfigError:
            found.append({"name": name, "text": "at an address that no command of yours has named"})
    return found


def _place(
    name: str, folder: Path, options: Mapping[str, Any], runs: Sequence[RunDir | None]
) -> dict[str, Any]:
    if name == "csv":
        return {"files": "csv"}
    if name == "tensorboard":
        return {"command": f"tensorboard --logdir {shlex.quote(str(folder / 'tensorboard'))}"}
    if name == "wandb":
        is_online = any(_state(run, name).get("mode") == "online" for run in runs[:1])
        command = f"wandb leet {shlex.quote(str(folder / 'wandb'))}"
        return {"text": f"project {options.get('project')}"} if is_online else {"command": command}
    uri = str(options.get("tracking_uri"))
    if not uri.startswith(("http://", "https://")):
        return {"command": f"mlflow ui --backend-store-uri {shlex.quote(uri)}"}
    server = re.sub("//[^/]*@", "//", uri).rstrip("/")  # no password
    ids = [_state(run, name).get("run_id") for run in runs]
    return {"base": f"{server}/#/runs/", "ids": [str(one) if one else None for one in ids]}


def _state(run: RunDir | None, tracker: str) -> Mapping[str, Any]:
    """Returns what the mirror has noted of a run; empty before it is synced."""
    file = run.mirror_file(tracker) if run else None
    position = read_json(file) if file and file.exists() else {}
    state = position.get("state") if isinstance(position, Mapping) else {}
    return state if isinstance(state, Mapping) else {}
