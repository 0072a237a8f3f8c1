"""Tells the user what a sweep waits for while its database does not answer."""

from __future__ import annotations

from dlsweep.drive.progress import View, duration
from dlsweep.sweep.storage import Outage
from dlsweep.sweep.study import Study


class Outages:
    """Watches the database of a study.

    Args:
        study: The study.
        view: Says when the database goes away, for how long, and when it is back.
    """

    def __init__(self, study: Study, view: View) -> None:
        self._study = study
        self._view = view
        self._said: Outage | None = None

    def is_stored(self) -> bool:
        """Returns whether the database has everything; else tries again to reach it."""
        before = self._study.outage
        is_stored = self._study.flush()
        now = self._study.outage
        self._view.waits_for = f"waits {now.seconds:.0f} s for the database" if now else ""
        if now and now is not self._said:
            self._view.say(
                f"The study's database does not answer: {now.reason}.\n"
                "Running trials go on, and new ones wait for it.",
                "warning",
            )
            self._said = now
        elif before and not now:
            self._view.say(f"The database answers again, after {duration(before.seconds)}.")
        return is_stored

    def print_last(self) -> None:
        """Says so if the sweep has ended while the database did not answer."""
        if outage := self._study.outage:
            self._view.say(
                f"The database has not answered for {duration(outage.seconds)}. What it lacks is "
                "in the trials' folders; the same command brings it up to date.",
                "warning",
            )
