"""A study's trials, parameters and learning curves as pandas tables, for notebooks and scripts."""

from __future__ import annotations

import os
import sys
from array import array
from datetime import UTC
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from dlsweep.folders.lineage import in_words
from dlsweep.folders.studydir import StudyDir

if TYPE_CHECKING:
    import pandas as pd

    from dlsweep.results.tables import Finished


def load(study: str | os.PathLike[str]) -> StudyTables:
    """Loads the results of a study, finished or still running, as pandas tables.

    Nothing in the folder is executed. A table is read when it is first used, so call this again
    for what a running sweep has added.

    Args:
        study: The study folder, such as ``outputs/mnist``.

    Returns:
        An object with the tables ``trials``, ``params`` and ``curves``.

    Raises:
        StudyError: If the folder is not a study folder, or a file of it is damaged.
        ConfigError: If its storage is a server that no command of yours has named.
    """
    from dlsweep.results.tables import Finished  # imports Optuna, which takes a while

    return StudyTables(Finished(StudyDir(study)))


class StudyTables:
    """The tables of one study. Their columns are stable.

    ``trials`` and ``params`` have the trial's number as index, so ``trials.join(params)`` puts them
    together. Times are in UTC.
    """

    def __init__(self, study: Finished) -> None:
        self._study = study

    def __repr__(self) -> str:
        return f"<{len(self._study.trials)} trials of {self._study.folder.path}>"

    @cached_property
    def trials(self) -> pd.DataFrame:
        """A row for each trial, by ``number``.

        ================  ====================================================================
        ``state``         ``completed``, ``pruned``, ``crashed``, ..., ``open`` or ``waiting``
        each objective    its value; of a pruned trial the last reported; NaN without any
        ``start``         when it was begun
        ``duration``      seconds from there to its end, pauses included; NaN before its end
        ``folder``        its run folder, as for ``dlsweep.load_model``
        ``reason``        why it failed; empty if it did not
        ``lineage``       whose weights it has copied, if any trial has: ``0003@5 0001@8``
        ``user_attrs_*``  a column for each user attribute, if there is any
        ================  ====================================================================
        """
        import pandas as pd

        from dlsweep.results.tables import lineage_in, state_of, user_attrs_of

        study, index = self._study, self._index()
        goals = [trial.values or [None] * len(study.objective) for trial in study.trials]
        starts = [trial.datetime_start for trial in study.trials]  # without a time zone: local
        begun = [moment and moment.astimezone(UTC) for moment in starts]
        lasted = [None if t.duration is None else t.duration.total_seconds() for t in study.trials]
        columns: dict[str, Any] = {
            "state": [state_of(trial) for trial in study.trials],
            **{
                name: np.array([values[goal] for values in goals], dtype=float)
                for goal, name in enumerate(study.objective)
            },
            "start": pd.to_datetime(pd.Series(begun, index=index, dtype=object), utc=True),
            "duration": np.array(lasted, dtype=float),
            "folder": [str(study.folder.trial(number).path) for number in index],
            "reason": [str(trial.user_attrs.get("reason", "")) for trial in study.trials],
        }
        lineages = [in_words(lineage_in(trial)) for trial in study.trials]
        if any(lineages):
            columns["lineage"] = lineages
        attrs = [user_attrs_of(trial) for trial in study.trials]
        for name in sorted({name for found in attrs for name in found}):
            columns[f"user_attrs_{name}"] = [found.get(name) for found in attrs]
        return pd.DataFrame(columns, index=index)

    @cached_property
    def params(self) -> pd.DataFrame:
        """A row for each trial, by ``number``, and a column for each swept key, as launched.

        A key that a trial does not have is NaN or None there.
        """
        import pandas as pd

        from dlsweep.results.tables import point_of

        points = [point_of(trial) for trial in self._study.trials]
        keys = list(dict.fromkeys(key for point in points for key in point))
        columns = {key: [point.get(key) for point in points] for key in keys}
        return pd.DataFrame(columns, index=self._index())

    @cached_property
    def curves(self) -> pd.DataFrame:
        """A row for each value that a run has logged.

        ==========  ============================
        ``number``  the trial
        ``step``    the step
        ``time``    when it was logged
        ``metric``  the metric's name
        ``value``   its value; may be NaN
        ==========  ============================
        """
        import pandas as pd

        numbers, steps, times, values = array("q"), array("q"), array("d"), array("d")
        metrics: list[str] = []
        for trial in self._study.trials:
            for record, _ in self._study.folder.trial(trial.number).records():
                for name, value in record.metrics.items():
                    numbers.append(trial.number)
                    steps.append(record.step)
                    times.append(record.time)
                    values.append(value)
                    metrics.append(sys.intern(name))
        return pd.DataFrame(
            {
                "number": np.array(numbers, dtype=np.int64),
                "step": np.array(steps, dtype=np.int64),
                "time": pd.to_datetime(
                    np.array(times, dtype=float), unit="s", utc=True, errors="coerce"
                ),
                "metric": pd.Series(metrics, dtype=object if not metrics else None),
                "value": np.array(values, dtype=float),
            }
        )

    def _index(self) -> pd.Index[int]:
        import pandas as pd

        numbers = np.array([trial.number for trial in self._study.trials], dtype=np.int64)
        return pd.Index(numbers, name="number")
