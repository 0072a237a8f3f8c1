"""Modules that were renamed since a run folder was written, so that old runs still resume."""

from __future__ import annotations

import re

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


def with_todays_names(config: str) -> str:
    """Replaces the old names of dlsweep's own modules in a config's YAML text."""
    return _OLD.sub(lambda found: _RENAMED[found[1]], config)
