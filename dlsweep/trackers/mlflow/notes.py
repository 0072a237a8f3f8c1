"""The description of a study's parent run in MLflow, in Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def study_note(folder: Path, info: Mapping[str, Any], best: Mapping[str, Any], link: str) -> str:
    """Describes an ended study: its best trial, and the space that was searched.

    Args:
        folder: The study folder.
        info: The content of ``study.json``.
        best: What it says of the best trial: ``value`` and ``params``.
        link: The link to the trial's run.
    """
    lines = [f"The best trial is {link}, at {best['value']:.6g}."]
    if space := info.get("space"):
        lines += ["", "| key | best | searched |", "|---|---|---|"]
        lines += [
            f"| {_cell(key)} | {_cell(best['params'].get(key, '-'))} | {_cell(_range(one))} |"
            for key, one in space.items()
        ]
    if list(info.get("command", ()))[1:] == ["-m", "dlsweep"]:  # not the study of another app
        lines += ["", f"Train it again:  `python -m dlsweep +best={folder}`"]
    return "\n".join(lines)


def _range(distribution: Mapping[str, Any]) -> str:
    """Returns an Optuna distribution in words."""
    attributes = distribution["attributes"]
    if "choices" in attributes:
        return ", ".join(map(str, attributes["choices"]))
    scale = ", logarithmic" if attributes.get("log") else ""
    return f"{attributes['low']:.6g} to {attributes['high']:.6g}{scale}"


def _cell(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")
