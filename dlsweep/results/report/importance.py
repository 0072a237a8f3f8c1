"""How much each swept key decides, by Optuna's PED-ANOVA."""

from __future__ import annotations

import importlib
import warnings
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from dlsweep.machine.imports import hidden
from dlsweep.results.report.numbers import rounded
from dlsweep.results.tables import Finished

# If scikit-learn is installed, Optuna would import it, which takes seconds, for evaluators that
# are not used here.
with hidden("sklearn"):
    importance = importlib.import_module("optuna.importance")

#: With fewer completed trials, there is nothing to compare; with fewer than some, little.
_FEWEST, _FEW = 2, 20


def importances(study: Finished, goal: int) -> dict[str, Any]:
    """Returns the share of each key in one objective, largest first, or why there is none.

    Args:
        study: The study.
        goal: The position of the objective.

    Returns:
        ``shares``, pairs of a key and its share of 1, and ``text``, what they were computed from.
    """
    done = [trial for trial in study.trials if trial.state is TrialState.COMPLETE]
    if len(done) < _FEWEST:
        return {"shares": [], "text": f"Fewer than {_FEWEST} trials have completed."}

    sign = -1.0 if study.record["directions"][goal] == "maximize" else 1.0

    def target(trial: FrozenTrial) -> float:
        return sign * float(trial.values[goal])  # the evaluator takes less for better

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # raw importances are experimental
        try:
            found = importance.get_param_importances(study.study, target=target, normalize=False)
        except (ValueError, RuntimeError) as error:
            return {"shares": [], "text": f"Optuna finds none: {error}"}
    total = sum(found.values())
    if not found or not total:
        return {"shares": [], "text": "No key makes a difference."}
    shares = sorted(((key, value / total) for key, value in found.items()), key=lambda one: -one[1])
    text = f"By Optuna's PED-ANOVA, from {len(done)} completed trials"
    text += ": with so few, a hint at most." if len(done) < _FEW else "."
    return {"shares": [[key, rounded(share)] for key, share in shares], "text": text}
