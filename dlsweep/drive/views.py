"""Chooses how progress is shown: ``hydra.sweeper.progress``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dlsweep.drive.events import EventView, claim_stdout
from dlsweep.drive.progress import Counts, LiveView, View, make_console
from dlsweep.errors import ConfigError


def make_view(objective: Sequence[str], counts: Counts, progress: Any = "auto") -> View:
    """Returns the view of a sweep or of a single run.

    Args:
        objective: The objectives.
        counts: The counts of trials.
        progress: ``auto`` is a live table on a terminal, and plain lines in a file or a pipe;
            ``json`` is lines of JSON.

    Raises:
        ConfigError: If it is neither of them.
    """
    if progress == "json":
        return EventView(objective, counts, claim_stdout())
    if progress != "auto":
        raise ConfigError(f"hydra.sweeper.progress: Received {progress!r}. Expected auto or json.")
    console = make_console()
    return (LiveView if console.is_terminal else View)(objective, counts, console)
