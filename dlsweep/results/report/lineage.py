"""The lineage of trials for the report page: who has copied whose weights, and what has changed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from optuna.trial import FrozenTrial

from dlsweep.results.tables import lineage_in


def lineage_data(trials: Sequence[FrozenTrial]) -> dict[str, Any] | None:
    """Returns the lineage of a study, as plain JSON values; None if no trial has copied another.

    Raises:
        StudyError: If the lineage of a trial is damaged.
    """
    rows: dict[int | None, int] = {trial.number: row for row, trial in enumerate(trials)}
    copies = [
        [row, entry.at, rows[entry.donor], entry.step, _words(entry.changed)]
        for row, trial in enumerate(trials)
        for entry in lineage_in(trial)
        if entry.donor in rows
    ]
    if not copies:
        return None
    return {"last": [max(one.intermediate_values, default=0) for one in trials], "copies": copies}


def _words(changed: dict[str, list[Any]]) -> list[str]:
    """Returns what has changed, a line for each key."""
    return [f"{key}: {' → '.join(map(_value, values))}" for key, values in changed.items()]


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else json.dumps(value)
