"""Studies on disk as sweeps leave them, made in no time: for the tests of results."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState, create_trial

from dlsweep.folders.rundir import COMPLETED, Result, RunInfo
from dlsweep.folders.studydir import StudyDir

LR, HIDDEN, OPTIMIZER = "training.optimizer.lr", "model.hidden", "training/optimizer"
SPACE: dict[str, BaseDistribution] = {
    OPTIMIZER: CategoricalDistribution(["adam", "sgd"]),
    LR: FloatDistribution(1e-4, 1e-1, log=True),
    HIDDEN: IntDistribution(32, 512, log=True),
}
BEGAN = 1_790_000_000.0


@dataclass
class Made:
    """A trial to make.

    Attributes:
        params: Its point.
        values: Its objectives; those of a pruned trial are what it reported last.
        curve: The objective at each step.
        status: How it ended; empty while it runs.
        reason: Why it failed.
        span: When it ran, in seconds after the study's start.
        attrs: Its user attributes.
    """

    params: dict[str, Any]
    values: Sequence[float] = ()
    curve: Sequence[float] = ()
    status: str = "completed"
    reason: str = ""
    span: tuple[float, float] = (0.0, 1.0)
    attrs: dict[str, Any] = field(default_factory=dict)


def make_study(
    path: Path,
    trials: Sequence[Made],
    objective: Sequence[str] = ("val/accuracy",),
    directions: Sequence[str] = ("maximize",),
    space: dict[str, BaseDistribution] | None = None,
    storage: str | None = "",
    **record: Any,
) -> tuple[StudyDir, optuna.Study]:
    """Makes a study's folder: its record, its database, and a run folder for each trial.

    Args:
        path: The study folder.
        trials: The trials.
        objective: The objectives.
        directions: Their directions.
        space: The search space.
        storage: An Optuna storage; None keeps the study in memory, which is quick for thousands.
        record: More keys of ``study.json``, or others for what it has.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    folder = StudyDir(path)
    folder.create()
    folder.database.touch()
    made = optuna.create_study(
        study_name="mine",
        storage=f"sqlite:///{folder.database}" if storage == "" else storage,
        directions=list(directions),
    )
    frozen = [_frozen(one, space or SPACE) for one in trials]
    made.add_trials(frozen)
    described = {
        "name": "mine",
        "storage": f"sqlite:///{folder.database}",
        "objective": list(objective),
        "directions": list(directions),
        "command": ["python", "-m", "dlsweep"],
        "created": BEGAN,
        "n_trials": len(trials),
        "tracking": {},
    }
    folder.info_file.write_text(json.dumps({**described, **record}))
    for number, one in enumerate(trials):
        _make_run(folder, number, one, objective, directions)
    return folder, made


def overrides_of(params: dict[str, Any]) -> list[str]:
    return ["+experiment=mine", *(f"{key}={value}" for key, value in params.items())]


def _frozen(one: Made, space: dict[str, BaseDistribution]) -> optuna.trial.FrozenTrial:
    attrs = {**one.attrs, "point": {"params": one.params}}
    if one.status not in ("", "completed", "pruned"):
        attrs["status"] = one.status
    if one.reason:
        attrs["reason"] = one.reason
    state = TrialState.FAIL
    if one.status in COMPLETED:
        state = TrialState.COMPLETE
    elif one.status == "pruned":
        state = TrialState.PRUNED
    elif not one.status:
        state = TrialState.RUNNING
    return create_trial(
        state=state,
        values=list(one.values) or None,
        params=one.params,
        distributions={key: space[key] for key in one.params},
        user_attrs=attrs,
        intermediate_values=dict(enumerate(one.curve)) if state is TrialState.PRUNED else None,
    )


def _make_run(
    study: StudyDir, number: int, one: Made, objective: Sequence[str], directions: Sequence[str]
) -> None:
    run = study.trial(number)
    run.path.mkdir(parents=True)
    start, end = (BEGAN + seconds for seconds in one.span)
    info = RunInfo(
        id=f"{number:032x}",
        name=run.path.name,
        study="mine",
        number=number,
        objective=list(objective),
        directions=list(directions),
        overrides=overrides_of(one.params),
        params=one.params,
        tracking={},
        created=start,
    )
    run.info_file.write_text(json.dumps(asdict(info)))
    share = (end - start) / max(len(one.curve), 1)
    lines = (
        json.dumps({"step": k, "time": start + share * (k + 0.5), "metrics": {objective[0]: value}})
        for k, value in enumerate(one.curve)
    )
    run.records_file.write_text("".join(f"{line}\n" for line in lines))
    if one.status:
        metrics = dict(zip(objective, one.values, strict=False))
        run.write_result(Result(one.status, one.reason, metrics, start, end))
