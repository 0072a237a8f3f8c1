"""Collects what the report page shows of a study, as JSON: nothing is estimated or made up."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial

from dlsweep.folders.removal import again
from dlsweep.folders.rundir import COMPLETED, FAILURES, RunDir
from dlsweep.results.report import provenance
from dlsweep.results.report.curves import Curves
from dlsweep.results.report.importance import importances
from dlsweep.results.report.lineage import lineage_data
from dlsweep.results.report.links import tracker_links
from dlsweep.results.report.numbers import finite, rounded
from dlsweep.results.report.slots import Span, spans, timeline
from dlsweep.results.tables import Finished, point_of, state_of, user_attrs_of


@dataclass
class Folders:
    """What the trials' folders say, row by row."""

    runs: list[RunDir | None] = field(default_factory=list)
    overrides: list[list[str] | None] = field(default_factory=list)
    curves: Curves = field(default_factory=Curves)
    spans: list[Span] = field(default_factory=list)

    def read(self, row: int, study: Finished, trial: FrozenTrial) -> None:
        """Reads the folder of one trial; a trial that was never launched has none."""
        run = study.folder.trial(trial.number)
        if not run.info_file.exists():
            self.runs.append(None)
            self.overrides.append(None)
            return
        info = run.info()
        self.runs.append(run)
        self.overrides.append(again(info))
        logged = self.curves.add(row, run)
        self.spans += spans(row, run, state_of(trial), info.created, logged)


def study_data(study: Finished) -> dict[str, Any]:
    """Returns what the page shows of a study, as plain JSON values.

    Raises:
        StudyError: If a file of the study is damaged.
    """
    folders = Folders()
    for row, trial in enumerate(study.trials):
        folders.read(row, study, trial)
    curves, notes = folders.curves.compact(study.objective)
    best = study.best()
    shared = _shared(folders.overrides)
    keys = _keys(study)
    own = [texts and texts[len(shared) :] for texts in folders.overrides]
    trials = _trials(study, keys, own)
    record = study.record
    return {
        "name": str(record["name"]),
        "path": str(study.folder.path),
        "trials_folder": study.folder.trials.name,
        "objective": study.objective,
        "directions": list(record["directions"]),
        "command": [str(one) for one in record["command"]] + shared,
        "planned": finite(record.get("n_trials")),
        "created": finite(record.get("created")),
        "finished": finite(record.get("finished")),
        "written": time.time(),
        "found": _found(study, best),
        "space": [key.record() for key in keys],
        "trials": trials,
        "best": [trial.number for trial in best],
        "importance": [importances(study, goal) for goal in range(len(study.objective))],
        "curves": curves,
        "lineage": lineage_data(study.trials),
        "slots": timeline(folders.spans),
        "environment": provenance.environment(study.folder),
        "data": provenance.data(run for run in folders.runs if run),
        "trackers": tracker_links(study.folder, record.get("tracking"), folders.runs),
        "notes": notes,
    }


def _found(study: Finished, best: Sequence[FrozenTrial]) -> str:
    """Returns the result in words."""
    counts = Counter(map(state_of, study.trials)).most_common()
    many = "1 trial" if len(study.trials) == 1 else f"{len(study.trials)} trials"
    states = ", ".join(f"{count} {state}" for state, count in counts)
    said = f"{many}: {states}." if counts else "No trial has begun."
    if not best:
        return f"{said} No trial has completed."
    if len(study.objective) > 1:
        return f"{said} {len(best)} are on the Pareto front of {' and '.join(study.objective)}."
    value = f"{best[0].values[0]:.6g}"
    return f"{said} The best {study.objective[0]} is {value}, of trial {best[0].number:04d}."


@dataclass
class Key:
    """A swept key: its scale, or its choices by their labels."""

    name: str
    distribution: BaseDistribution | None
    choices: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.distribution, CategoricalDistribution):
            for choice in self.distribution.choices:
                self.cell(choice)

    @property
    def is_choice(self) -> bool:
        """Whether its values have no order."""
        return self.distribution is None or isinstance(self.distribution, CategoricalDistribution)

    def cell(self, value: Any) -> float | None:
        """Returns a value as the page holds it: a number, or the position of a choice."""
        if not self.is_choice:
            return rounded(value)
        label = value if isinstance(value, str) else json.dumps(value)
        return self.choices.setdefault(label, len(self.choices))

    def record(self) -> dict[str, Any]:
        """Returns the key as JSON."""
        if self.is_choice:
            return {"key": self.name, "choices": list(self.choices)}
        scale: Any = self.distribution
        return {
            "key": self.name,
            "low": rounded(scale.low),
            "high": rounded(scale.high),
            "log": bool(scale.log),
            "step": rounded(scale.step),
            "whole": "Int" in type(scale).__name__,
        }


def _keys(study: Finished) -> list[Key]:
    """Returns the keys that trials have, in the order in which they were suggested."""
    distributions: dict[str, BaseDistribution | None] = {}
    for trial in study.trials:
        distributions |= trial.distributions
    for trial in study.trials:
        for name in point_of(trial):
            distributions.setdefault(str(name), None)
    return [Key(name, one) for name, one in distributions.items()]


def _trials(
    study: Finished, keys: Sequence[Key], overrides: Sequence[list[str] | None]
) -> dict[str, Any]:
    """Returns the trials by columns; each override is its key's number and its value's text.

    A trial without a folder has None for its overrides.
    """
    names: dict[str, int] = {}
    states: dict[str, int] = {}
    points = [point_of(trial) for trial in study.trials]
    attrs = {row: user_attrs_of(trial) for row, trial in enumerate(study.trials)}
    reasons = {row: trial.user_attrs.get("reason") for row, trial in enumerate(study.trials)}

    def split(override: str) -> list[Any]:
        name, equals, text = override.partition("=")
        return [names.setdefault(name + equals, len(names)), text]

    return {
        "number": [trial.number for trial in study.trials],
        "state": [states.setdefault(state_of(t), len(states)) for t in study.trials],
        "states": list(states),
        "kinds": [_kind(state) for state in states],
        "values": [
            [finite(trial.values[goal]) if trial.values else None for trial in study.trials]
            for goal in range(len(study.objective))
        ],
        "points": [
            [key.cell(point[key.name]) if key.name in point else None for point in points]
            for key in keys
        ],
        "seconds": [
            None if trial.duration is None else rounded(trial.duration.total_seconds())
            for trial in study.trials
        ],
        "overrides": [
            None if texts is None else [split(one) for one in texts] for texts in overrides
        ],
        "override_names": list(names),
        "reasons": {row: str(reason) for row, reason in reasons.items() if reason},
        "attrs": {
            row: {str(name): json.dumps(value) for name, value in found.items()}
            for row, found in attrs.items()
            if found
        },
    }


def _kind(state: str) -> str:
    """Returns how the page shows a state: as done, cut, failed or open."""
    if state in COMPLETED:
        return "done"
    if state in FAILURES:
        return "failed"
    return "cut" if state in ("pruned", "stopped", "rejected") else "open"


def _shared(overrides: Sequence[list[str] | None]) -> list[str]:
    """Returns the overrides that all launched trials begin with."""
    launched = [texts for texts in overrides if texts]
    columns = zip(*launched, strict=False)
    return [column[0] for column in takewhile(lambda column: len({*column}) == 1, columns)]
