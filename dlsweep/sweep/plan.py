"""Prints the plan of a sweep without running it: ``hydra.sweeper.plan=true``."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from rich.table import Table

from dlsweep.drive.progress import make_console
from dlsweep.sweep.space import SearchSpace
from dlsweep.sweep.study import Study, StudySettings

_FIRST = 5


def show_plan(
    settings: StudySettings,
    space: SearchSpace,
    n_trials: int | None,
    grid: bool,
    as_json: bool = False,
) -> None:
    """Prints the search space, conditional keys and the first trials; runs nothing.

    Args:
        settings: The study's settings; its storage is not opened.
        space: The search space.
        n_trials: The number of trials.
        grid: Whether every point is run once.
        as_json: Whether to print it as one line of JSON.
    """
    study = Study(dataclasses.replace(settings, storage=None), space)
    points = space.points() if grid else None
    count = min(_FIRST, n_trials or _FIRST)
    trials = [study.ask(next(points) if points else None) for _ in range(count)]
    if as_json:
        plan = _record(settings, space, n_trials, grid)
        plan["warm_start"] = study.notes
        plan["first"] = [trial.overrides for trial in trials]
        print(json.dumps(plan))
        return
    console = make_console()
    how = "every point once" if grid else _name(settings.sampler)
    length = f"{n_trials} trials" if n_trials else "until the timeout"
    pruner = _name(settings.pruner) if settings.pruner else "no pruner"
    console.print(f"{settings.name}: {length}, {how}, {pruner}")
    console.print(_space_table(space))
    for note in study.notes:
        console.print(note, soft_wrap=True)
    console.print("The first trials:" if settings.seed is not None else "For example:")
    for trial in trials:
        text = " ".join(trial.overrides)
        console.print(f"  {trial.number:04d}  {text}", soft_wrap=True)
    console.print("Nothing was run.")


def _record(
    settings: StudySettings, space: SearchSpace, n_trials: int | None, grid: bool
) -> dict[str, Any]:
    """Returns the plan as plain values; ``is_exact`` says that the first trials will be these."""
    return {
        "name": settings.name,
        "n_trials": n_trials,
        "grid": grid,
        "sampler": settings.sampler["_target_"],
        "pruner": settings.pruner.get("_target_"),
        "space": {one.key: one.text for one in space.dimensions},
        "active_under": space.active_under(),
        "is_exact": grid or settings.seed is not None,
    }


def _name(config: dict[str, Any]) -> str:
    """Returns the name of a sampler or pruner: its class, or its package of OptunaHub."""
    return str(config.get("package") or config["_target_"].rpartition(".")[2])


def _space_table(space: SearchSpace) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for title in ("key", "space", "active under"):
        table.add_column(title, overflow="fold")
    conditions = space.active_under()
    for one in space.dimensions:
        under = conditions.get(one.key)
        table.add_row(one.key, one.text, "always" if under is None else "\n".join(under))
    return table
