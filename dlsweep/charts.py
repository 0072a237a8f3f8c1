"""Charts of a whole study, drawn by Optuna's own visualization."""

from __future__ import annotations

import importlib
import logging
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import optuna

from dlsweep.imports import hidden
from dlsweep.results import Finished

# Optuna would import scikit-learn where it is installed, for seconds, and for estimates of
# importance that none of these charts uses.
with hidden("sklearn"):
    importlib.import_module("optuna.importance")

#: What is drawn of one objective; the names are Optuna's, less their ``plot_``. Trackers have
#: curves, scatter plots and parallel coordinates of their own.
_OF_VALUES = ("optimization_history", "param_importances")
_ALL = (*_OF_VALUES, "pareto_front", "timeline")
_DOTS_PER_INCH = 100


def preload() -> None:
    """Imports what draws, while there is time."""
    importlib.import_module("optuna.visualization.matplotlib")


def draw_charts(study: Finished) -> list[str]:
    """Draws each chart as ``charts/<name>.png``; of several objectives most show the first.

    Returns:
        What was left out and why, a sentence each.

    Raises:
        StudyError: If the folder leads elsewhere.
    """
    folder = study.folder.make_charts()
    for name in _ALL:
        (folder / f"{name}.png").unlink(missing_ok=True)
    reasons = [_draw(study, name, options, folder) for name, options in _charts(study).items()]
    return [reason for reason in reasons if reason]


def _charts(study: Finished) -> dict[str, dict[str, Any]]:
    """The charts that make sense, each with the arguments of its function."""
    several = len(study.objective) > 1
    options: dict[str, Any] = {"target_name": study.objective[0]}
    if several:
        options["target"] = _first_value
    charts = dict.fromkeys(_OF_VALUES, options)
    if several:
        charts["pareto_front"] = {}
    return {**charts, "timeline": {}}


def _first_value(trial: optuna.trial.FrozenTrial) -> float:
    return float(trial.values[0])


def _draw(study: Finished, name: str, options: dict[str, Any], target: Path) -> str:
    """Draws a chart; returns why it was left out, or nothing."""
    import matplotlib
    from matplotlib import pyplot
    from optuna.visualization import matplotlib as visualization

    matplotlib.use("Agg")
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    draw = partial(getattr(visualization, f"plot_{name}"), study.study, **options)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Optuna's, that most of these are experimental
            draw()
            figure = pyplot.gcf()
            figure.set_layout_engine("none")  # which takes time, and the tight box does the same
            figure.savefig(target / f"{name}.png", dpi=_DOTS_PER_INCH, bbox_inches="tight")
    except (ValueError, RuntimeError) as error:  # by Optuna, of trials that are too few or alike
        return f"No {name}: {error}"
    finally:
        pyplot.close("all")
    return ""
