"""Results of a study: tables of trials, the best trial, the leaderboard."""

from __future__ import annotations

import importlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from omegaconf import OmegaConf
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dlsweep.drive.progress import make_console
from dlsweep.errors import StudyError
from dlsweep.folders import removal
from dlsweep.folders.lineage import LINEAGE_ATTR, Inheritance, in_words, read_lineage
from dlsweep.folders.reserved import OWN_ATTRS
from dlsweep.folders.rundir import COMPLETED, write_atomically
from dlsweep.folders.studydir import StudyDir
from dlsweep.machine.imports import no_garbage
from dlsweep.results.database import open_storage
from dlsweep.results.keeping import kept_trials
from dlsweep.run.keeping import Keep
from dlsweep.security.printable import printable
from dlsweep.security.secrets import resolved

if TYPE_CHECKING:
    import pandas as pd

#: Optuna's trial states in dlsweep's words, for trials whose run folder has no status.
_STATES = {
    TrialState.COMPLETE: "completed",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "crashed",
    TrialState.RUNNING: "open",
    TrialState.WAITING: "waiting",
}


class Finished:
    """A study on disk.

    Args:
        folder: The study folder.
        study: The Optuna study, if it is open; else it is loaded.

    Raises:
        StudyError, ConfigError: As :meth:`StudyDir.record`.
    """

    def __init__(self, folder: StudyDir, study: optuna.Study | None = None) -> None:
        self.folder = folder
        self.record: dict[str, Any] = folder.record()
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.study = study or _load(folder, self.record)
        if len(self.study.directions) != len(self.objective):
            raise StudyError(
                f"{folder.info_file} is damaged: it has {len(self.objective)} objectives, and the "
                f"database has {len(self.study.directions)}."
            )
        self.trials = self.study.get_trials(deepcopy=False)

    @property
    def objective(self) -> list[str]:
        """The objectives."""
        return list(self.record["objective"])

    @property
    def unfinished(self) -> int:
        """The number of trials that are still to run or to end."""
        return sum(not trial.state.is_finished() for trial in self.trials)

    def best(self) -> list[FrozenTrial]:
        """The completed trials, best first; with several objectives, the Pareto front."""
        if len(self.objective) > 1:
            return self.study.best_trials
        done = [trial for trial in self.trials if trial.state is TrialState.COMPLETE]
        descending = self.record["directions"][0] == "maximize"
        return sorted(done, key=lambda trial: trial.values[0], reverse=descending)

    def table(self) -> pd.DataFrame:
        """A row for each trial: number, state, objectives, parameters, start, duration, folder."""
        import pandas as pd  # slow, so only at a sweep's end

        rows = [self._row(trial) for trial in self.trials]
        columns = ["number", "state", *self.objective]
        has_lineage = any("lineage" in row for row in rows)
        tail = ["lineage"] * has_lineage + ["start", "duration", "folder", "reason"]
        params = sorted({key for row in rows for key in row} - {*columns, *tail})
        return pd.DataFrame(rows, columns=[*columns, *params, *tail])

    def command(self, trial: FrozenTrial) -> str:
        """Returns the command that trains a trial's point again."""
        return removal.command(self.folder.trial(trial.number))

    def _row(self, trial: FrozenTrial) -> dict[str, Any]:
        values = trial.values or [None] * len(self.objective)
        seconds = trial.duration.total_seconds() if trial.duration else None
        return {
            "number": trial.number,
            "state": state_of(trial),
            **dict(zip(self.objective, values, strict=False)),
            **point_of(trial),
            **{f"user_attrs_{key}": value for key, value in user_attrs_of(trial).items()},
            **({"lineage": in_words(lineage)} if (lineage := lineage_in(trial)) else {}),
            "start": trial.datetime_start,
            "duration": seconds,
            "folder": f"{self.folder.trials.name}/{self.folder.name(trial.number)}",
            "reason": trial.user_attrs.get("reason", ""),
        }


def import_pandas() -> None:
    """Imports what the tables need, early and beside other work.

    The garbage collector skips what is imported here; searching it would delay the driver's exit.
    """
    with no_garbage():
        importlib.import_module("pandas")


def _load(folder: StudyDir, record: dict[str, Any]) -> optuna.Study:
    storage = open_storage(resolved(record["storage"]))
    try:
        return optuna.load_study(study_name=record["name"], storage=storage)
    except KeyError:
        raise StudyError(
            f"{folder.path} has no study {record['name']!r} in its database."
        ) from None


def state_of(trial: FrozenTrial) -> str:
    """Returns a trial's state: its run's status, or a word for an unfinished trial."""
    return str(trial.user_attrs.get("status", _STATES[trial.state]))


def weights_stay(
    folder: StudyDir, trials: Sequence[FrozenTrial], directions: Sequence[str], keep: Keep
) -> dict[int, bool]:
    """Returns for each ended trial whether its weights stay; those of the trial to deploy do.

    Args:
        folder: The study folder.
        trials: The study's trials.
        directions: ``minimize`` or ``maximize`` for each objective.
        keep: The policy.
    """
    ended = [trial for trial in trials if trial.state.is_finished()]
    completed = {trial.number for trial in ended if state_of(trial) in COMPLETED}
    values = {one.number: one.values for one in ended if one.number in completed and one.values}
    kept = completed if keep == "best" else kept_trials(values, directions, keep)
    deployed = folder.best_number() if folder.deploy.exists() else None
    kept = kept if deployed is None else kept | {deployed}
    return {trial.number: trial.number in kept for trial in ended}


def point_of(trial: FrozenTrial) -> dict[str, Any]:
    """Returns a trial's parameters as they were launched."""
    point = trial.user_attrs.get("point")
    params = point.get("params") if isinstance(point, dict) else None
    return dict(params if isinstance(params, dict) else trial.params)


def lineage_in(trial: FrozenTrial) -> list[Inheritance]:
    """Returns a trial's lineage; empty if it has copied no other one's weights.

    Raises:
        StudyError: If it is damaged.
    """
    where = f"trial {trial.number} of the study"
    return read_lineage(trial.user_attrs.get(LINEAGE_ATTR, []), where)


def user_attrs_of(trial: FrozenTrial) -> dict[str, Any]:
    """Returns a trial's user attributes, without dlsweep's own."""
    return {key: value for key, value in trial.user_attrs.items() if key not in OWN_ATTRS}


def write_tables(study: Finished) -> None:
    """Writes ``trials.csv``, ``trials.parquet`` and, if a trial has completed, ``best.yaml``."""
    folder = study.folder
    table = study.table()
    write_atomically(folder.csv, table.to_csv(index=False))
    aside = folder.parquet.with_suffix(".tmp")
    _uniform(table).to_parquet(aside)
    aside.replace(folder.parquet)
    if best := study.best():
        write_atomically(
            folder.best, OmegaConf.to_yaml(OmegaConf.create(described(study, best[0])))
        )


def described(study: Finished, trial: FrozenTrial) -> dict[str, Any]:
    """Returns a completed trial as plain values: number, values, parameters, folder, command."""
    return {
        "number": trial.number,
        "value": trial.values[0],
        "params": point_of(trial),
        "values": dict(zip(study.objective, trial.values, strict=True)),
        "folder": str(study.folder.trial(trial.number).path),
        "command": study.command(trial),
    }


def as_json(study: Finished) -> dict[str, Any]:
    """Returns what the leaderboard shows, and a row for each trial, as plain JSON values."""
    rows = json.loads(study.table().to_json(orient="records", date_format="iso"))
    return {
        "name": study.record["name"],
        "folder": str(study.folder.path),
        "objective": study.objective,
        "directions": study.record["directions"],
        "states": Counter(map(state_of, study.trials)),
        "best": [described(study, trial) for trial in study.best()[:10]],
        "trials": rows,
    }


def show(study: Finished, console: Console, rows: int = 10) -> None:
    """Prints the leaderboard, and the command that trains the best trial again."""
    folder = study.folder
    best = study.best()
    states = Counter(map(state_of, study.trials)).most_common()
    counts = ", ".join(f"{count} {state}" for state, count in states)
    name = printable(str(study.record["name"]))
    console.print(f"\n{name}: {len(study.trials)} trials ({printable(counts)})")
    if not best:
        console.print("No trial has completed.")
        return
    console.print(_leaderboard(study, best[:rows]))
    title = "The best trial again" if len(study.objective) == 1 else "The front's first again"
    console.print(f"{title}:\n  {printable(study.command(best[0]))}", soft_wrap=True)
    console.print(f"Its folder:  {folder.trial(best[0].number).path}", soft_wrap=True)
    console.print(f"All trials:  {folder.csv}", soft_wrap=True)
    if folder.report.exists():
        console.print(f"The report:  {folder.report}", soft_wrap=True)


def _leaderboard(study: Finished, trials: list[FrozenTrial]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    points = [point_of(trial) for trial in trials]
    params = sorted({key for point in points for key in point})
    for title in ("trial", *study.objective):
        table.add_column(printable(title), justify="right")
    for title in params:
        table.add_column(printable(title.rpartition(".")[2]))
    for trial, point in zip(trials, points, strict=True):
        values = [f"{value:.6g}" for value in trial.values]
        cells = [_cell(point[key]) if key in point else "-" for key in params]
        table.add_row(Text(f"{trial.number:04d}"), *values, *cells)
    return table


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else printable(str(value))


def _uniform(table: pd.DataFrame) -> pd.DataFrame:
    """Converts columns of mixed types to text, because Parquet needs one type a column."""
    mixed = [
        name
        for name in table.columns
        if table[name].dtype == object and table[name].dropna().map(type).nunique() > 1
    ]
    return table.astype(dict.fromkeys(mixed, "string"))


def main(folders: Sequence[Path], as_lines: bool = False) -> None:
    """The verb ``report``: prints the leaderboard of each study, or one line of JSON for each."""
    for study in (Finished(StudyDir(folder)) for folder in folders):
        if as_lines:
            print(json.dumps(as_json(study)))
        else:
            show(study, make_console())
