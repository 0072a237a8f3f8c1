"""Logs the best value over a study's trials: a W&B run in the study's group."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from typing import Any

from dlsweep.folders.studydir import StudyDir
from dlsweep.trackers.base import State
from dlsweep.trackers.history import best_so_far, curve_name


def log_curve(study: StudyDir, info: Mapping[str, Any], state: State, **place: Any) -> None:
    """Logs the curve of an ended study; offline, it is written anew if it differs.

    Args:
        study: The study folder.
        info: The content of ``study.json``.
        state: The tracker's state for the study; stores the points that are logged.
        place: Arguments of ``wandb.init`` that say where runs go: ``mode``, ``project`` and so on.
    """
    points = [list(point) for point in best_so_far(study, info)]
    folders = list((study.path / "wandb").glob(f"offline-run-*-{info['id']}"))
    offline = place["mode"] == "offline"
    if not points or (state.get("curve") == points and (folders or not offline)):
        return
    for folder in folders if offline else ():
        shutil.rmtree(folder)
    import wandb

    os.environ.pop("WANDB_SERVICE", None)  # another process's service, which may end first
    (study.path / "wandb").mkdir(parents=True, exist_ok=True)
    opened = wandb.init(
        **place,
        dir=study.path,
        id=info["id"],
        name=f"{info['name']} best",
        group=info["name"],
        job_type="study",
        resume="allow",
        reinit="create_new",
    )
    opened.define_metric("*", step_metric="trial")
    for row, (trial, time, value) in enumerate(points):
        # W&B itself skips the rows of an earlier call, whose steps are not above its last one.
        opened.log({"trial": trial, curve_name(info): value, "_timestamp": time}, step=row)
    opened.finish()
    state["curve"] = points
