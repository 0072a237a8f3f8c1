"""What has changed since a run folder or a study was written, so that both still resume."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

#: A module's name in older configs, and its name today.
_RENAMED = {
    "dlsweep.models.keras": "dlsweep.keras",
    "dlsweep.models.torch": "dlsweep.torch",
    "dlsweep.optimizers.keras": "dlsweep.keras.optimizers",
    "dlsweep.schedulers.keras": "dlsweep.keras.schedulers",
    "dlsweep.trainers.early_stopping": "dlsweep.trainers",
    "dlsweep.trainers.histograms": "dlsweep.trainers",
    "dlsweep.trainers.keras": "dlsweep.keras",
    "dlsweep.trainers.schedules": "dlsweep.trainers",
    "dlsweep.trainers.torch": "dlsweep.torch",
}
_OLD = re.compile(rf"(?<![\w.])({'|'.join(map(re.escape, _RENAMED))})(?!\w)")


#: Keys of the shipped YAML that older studies do not have, and the value that they ran with.
_ADDED: dict[str, Any] = {
    "data.standardize_target": False,
    "training.evaluate_test": True,
    "training.freeze": [],
}


def with_added_keys(identity: Mapping[str, str], wanted: Mapping[str, str]) -> dict[str, str]:
    """Adds keys to a study's identity that the YAML did not have then, with the value in effect.

    Args:
        identity: The study's identity: the JSON text of each value by its dotted key.
        wanted: Today's identity; only its keys are added.
    """
    added = {key: json.dumps(value) for key, value in _ADDED.items() if key in wanted}
    return {**added, **identity}


def with_todays_names(config: str) -> str:
    """Replaces the old names of dlsweep's own modules in a config's YAML text."""
    return _OLD.sub(lambda found: _RENAMED[found[1]], config)
