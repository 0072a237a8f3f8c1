"""Charts of a whole study, drawn by Optuna's own visualization."""

from __future__ import annotations

import importlib
import logging
import warnings
from functools import partial
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from dlsweep.machine.imports import hidden
from dlsweep.results.tables import Finished

# Optuna would import scikit-learn where it is installed, for seconds, and for estimates of
# importance that none of these charts uses.
with hidden("sklearn"):
    importlib.import_module("optuna.importance")

#: Of fewer completed trials Optuna would draw each key as important as any other.
_FEWEST = 2
#: How many trials a timeline shows: each is a bar, which takes two milliseconds to draw.
_TIMELINE = 1000
_DOTS_PER_INCH = 100


def preload() -> None:
    """Imports what draws, while there is time."""
    importlib.import_module("optuna.visualization.matplotlib")


def draw_charts(study: Finished) -> list[str]:
    """Draws each chart as ``charts/<name>.png``; of several objectives most show the first.

    The names are Optuna's, less their ``plot_``. Trackers have curves, scatter plots and parallel
    coordinates of their own.

    Returns:
        What was left out and why, a sentence each.

    Raises:
        StudyError: If the folder leads elsewhere.
    """
    folder = study.folder.make_charts()
    several = len(study.objective) > 1
    first: dict[str, Any] = {"target_name": study.objective[0]}
    if several:
        first["target"] = _first_value
    charts: dict[str, dict[str, Any]] = {
        "optimization_history": first,
        "param_importances": first,
        "timeline": {"n_recent_trials": _TIMELINE},
        **({"pareto_front": {}} if several else {}),
    }
    said = []
    if sum(trial.state is TrialState.COMPLETE for trial in study.trials) < _FEWEST:
        del charts["param_importances"]
        said.append(f"No param_importances: fewer than {_FEWEST} trials have completed.")
    said += [_draw(study, name, options, folder) for name, options in charts.items()]
    if len(study.trials) > _TIMELINE:
        said.append(f"The timeline shows the latest {_TIMELINE} trials.")
    return [sentence for sentence in said if sentence]


def _first_value(trial: FrozenTrial) -> float:
    return float(trial.values[0])


def _draw(study: Finished, name: str, options: dict[str, Any], folder: Path) -> str:
    """Draws a chart; returns why it was left out, or nothing."""
    import matplotlib
    from matplotlib import pyplot
    from optuna.visualization import matplotlib as visualization

    matplotlib.use("Agg")
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    file = folder / f"{name}.png"
    file.unlink(missing_ok=True)
    draw = partial(getattr(visualization, f"plot_{name}"), study.study, **options)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Optuna's, that most of these are experimental
            draw()
            figure = pyplot.gcf()
            figure.set_layout_engine("none")  # which takes time, and the tight box does the same
            figure.savefig(file, dpi=_DOTS_PER_INCH, bbox_inches="tight")
    except (ValueError, RuntimeError) as error:  # by Optuna, of trials that are too few or alike
        return f"No {name}: {error}"
    finally:
        pyplot.close("all")
    return ""
