"""Charts of a study, drawn by Optuna's visualization."""

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

# If scikit-learn is installed, Optuna would import it, which takes seconds, for importance
# evaluators that none of these charts uses.
with hidden("sklearn"):
    importlib.import_module("optuna.importance")

#: With fewer completed trials, Optuna would draw every key as equally important.
_FEWEST = 2
#: The number of trials in a timeline; drawing one takes two milliseconds.
_TIMELINE = 1000
_DOTS_PER_INCH = 100


def preload() -> None:
    """Imports the drawing packages, while there is time."""
    importlib.import_module("optuna.visualization.matplotlib")


def draw_charts(study: Finished) -> list[str]:
    """Draws each chart as ``charts/<name>.png``; with several objectives, most show the first.

    The names are Optuna's, without ``plot_``. Curves, scatter plots and parallel coordinates are
    left to the trackers, which have their own.

    Returns:
        A sentence for each chart that could not be drawn.

    Raises:
        StudyError: If the folder is a symbolic link.
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
    """Draws a chart; returns why it could not be drawn, or an empty string."""
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
            warnings.simplefilter("ignore")  # Optuna warns that most are experimental
            draw()
            figure = pyplot.gcf()
            figure.set_layout_engine("none")  # slow; bbox_inches="tight" is enough
            figure.savefig(file, dpi=_DOTS_PER_INCH, bbox_inches="tight")
    except (ValueError, RuntimeError) as error:  # too few trials, or all alike
        return f"No {name}: {error}"
    finally:
        pyplot.close("all")
    return ""
