"""Registers the exports of a run under one name, in MLflow's registry and as W&B artifacts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from dlsweep.errors import ConfigError
from dlsweep.folders.rundir import RunDir
from dlsweep.trackers.exports import ExportedVersion
from dlsweep.trackers.registries import Registries

#: The alias of the model to use, as in MLflow's own documentation.
CHAMPION = "champion"
#: Aliases that trackers set themselves; MLflow and W&B also number their versions v1, v2, ….
_TAKEN = re.compile(r"latest|best|v\d+", re.IGNORECASE)


class Registration:
    """Registers exports as versions of one registered model.

    Args:
        run: The run folder.
        name: The name of the registered model.
        alias: The alias that names the model to use.

    Raises:
        ConfigError: If a name is not valid, or only the folder names the address of a tracker.
        StudyError: If the run is not synced to a tracker that registers models.
        TrackerError: If a tracker does not work.
    """

    def __init__(self, run: RunDir, name: str, alias: str = CHAMPION) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}", name):
            raise ConfigError(
                f"--register: Received {name!r}. Expected up to 128 letters, digits, _, - and ., "
                "as digits."
            )
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,128}", alias) or _TAKEN.fullmatch(alias):
            raise ConfigError(
                f"--alias: Received {alias!r}. Expected up to 128 letters, digits, _ and -, but "
                "not latest, best or v1, which trackers set themselves, as champion."
            )
        self._name = name
        self._alias = alias
        self._registries = Registries(run)

    def add(self, folder: Path, is_champion: bool) -> Iterator[str]:
        """Registers a version of an export, once.

        Args:
            folder: The folder of the version.
            is_champion: Whether the alias names this version from now on.

        Yields:
            For each tracker, its name and how it names the version.

        Raises:
            TrackerError: If a tracker does not work.
            StudyLockedError: If the run is being synced.
        """
        alias = self._alias if is_champion else None
        found = self._registries.register(ExportedVersion(folder), self._name, alias)
        yield from (f"{tracker}: {version}" for tracker, version in found.items())
