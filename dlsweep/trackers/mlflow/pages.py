"""Addresses in MLflow's page: the runs of one study side by side, and one run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from dlsweep.trackers.base import State
from dlsweep.trackers.mlflow.names import key


def study_page(info: Mapping[str, Any], state: State) -> str:
    """Returns the page with charts and a table of a study's trials, the best first.

    Args:
        info: The content of ``study.json``.
        state: The tracker's state for the study; an earlier version did not note the experiment.

    Returns:
        What follows MLflow's address; empty if the state has too little.
    """
    if not {"run_id", "experiment"} <= state.keys():
        return ""
    order = "true" if info["directions"][0] == "minimize" else "false"
    query = {
        "searchFilter": f"tags.mlflow.parentRunId = '{state['run_id']}'",
        # Sorted by a metric, MLflow lists the trials; by time, it hides them below their parent.
        "orderByKey": f"metrics.`{key('result/' + info['objective'][0])}`",
        "orderByAsc": order,
        "compareRunsMode": "CHART",
    }
    asked = "&".join(f"{name}={quote(text, safe='')}" for name, text in query.items())
    return f"/#/experiments/{quote(str(state['experiment']), safe='')}/runs?{asked}"


def run_page(state: State) -> str:
    """Returns the page of a single run; empty if the state has too little."""
    if not {"run_id", "experiment"} <= state.keys():
        return ""
    place, run = (quote(str(state[one]), safe="") for one in ("experiment", "run_id"))
    return f"/#/experiments/{place}/runs/{run}"
