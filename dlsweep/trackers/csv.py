"""The CSV tracker: one table for each run."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from dlsweep.folders.rundir import Record, RunDir
from dlsweep.trackers.base import Point, Readable, State
from dlsweep.trackers.files import appending, begin, beside, require


class CSVTracker(Readable):
    """Writes one tidy table for each run: ``step,time,metric,value``, a line for each value.

    The table is ``<study>/csv/<trial>.csv``, or ``<run>/csv/<run>.csv`` for a single run. The
    study's ``trials.csv`` has the parameters and results of trials. Numbers are written with all
    digits, times in seconds since 1970. Media are left out.
    """

    view = "{folder}/csv"

    def start(self, run: RunDir, parent: State, state: State) -> None:  # noqa: ARG002
        """Creates the table, or checks that it still contains what was written.

        Raises:
            ViewLostError: If the file is gone or shorter than it was.
        """
        if state:
            require(_table(run), state)
            return
        begin(_table(run), state)
        self._append(run, [("step", "time", "metric", "value")], state)

    def log(self, run: RunDir, records: list[Record], state: State) -> None:
        """Appends a line for each metric of each record."""
        lines = [
            (record.step, record.time, name, value)
            for record in records
            for name, value in record.metrics.items()
        ]
        self._append(run, lines, state)

    def read(self, run: RunDir, state: State) -> Iterator[Point]:  # noqa: ARG002
        """Yields the lines of the table."""
        with _table(run).open(newline="") as file:
            for line in csv.DictReader(file):
                yield int(line["step"]), line["metric"], float(line["value"])

    def remove(self, run: RunDir, state: State) -> None:  # noqa: ARG002
        """Removes the table."""
        _table(run).unlink(missing_ok=True)

    def _append(self, run: RunDir, lines: Sequence[tuple[object, ...]], state: State) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(lines)
        with appending(_table(run), state) as file:
            file.write(text.getvalue().encode())


def _table(run: RunDir) -> Path:
    return beside(run, "csv") / f"{run.path.name}.csv"
