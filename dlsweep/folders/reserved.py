"""Names that dlsweep itself gives: to an objective without one, and to attributes of trials."""

from __future__ import annotations

#: The objective that has no name: the number that a user's Hydra app returns.
OBJECTIVE = "objective"
#: Attributes of Optuna's trials: who enqueued one, its most bytes, and why it ended so.
ENQUEUED, PEAK_MEMORY, REASON = "enqueued", "peak_memory", "reason"
#: All of them; a user's attribute may not have such a name.
OWN_ATTRS = (
    *(ENQUEUED, PEAK_MEMORY, REASON),
    *("lineage", "paused_at", "point", "rung", "status", "went_on_at"),
)
