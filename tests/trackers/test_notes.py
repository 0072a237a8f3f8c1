"""What MLflow shows of a study in words: the best trial, the space, the way to train it again."""

from __future__ import annotations

from pathlib import Path

from dlsweep.trackers.mlflow.notes import study_note

SPACE = {
    "training/optimizer": {"attributes": {"choices": ["adam", "a|b"]}},
    "lr": {"attributes": {"low": 0.0001, "high": 0.1, "log": True, "step": None}},
    "momentum": {"attributes": {"low": 0.0, "high": 0.99, "log": False}},
}
BEST = {
    "number": 4,
    "value": 0.95512345,
    "params": {"training/optimizer": "a|b", "lr": 0.012345678},
}


def test_the_note_has_the_best_and_the_space() -> None:
    info = {"space": SPACE, "command": ["python", "-m", "dlsweep"]}
    assert study_note(Path("/o/mnist"), info, BEST, "[0004](#/x)").splitlines() == [
        "The best trial is [0004](#/x), at 0.955123.",
        "",
        "| key | best | searched |",
        "|---|---|---|",
        "| training/optimizer | a\\|b | adam, a\\|b |",
        "| lr | 0.0123457 | 0.0001 to 0.1, logarithmic |",
        "| momentum | - | 0 to 0.99 |",
        "",
        "Train it again:  `python -m dlsweep +best=/o/mnist`",
    ]


def test_another_apps_study_has_no_command_of_ours() -> None:
    info = {"command": ["python", "train.py"]}
    note = study_note(Path("/o/mine"), info, BEST, "[0004](#/x)")
    assert note == "The best trial is [0004](#/x), at 0.955123."
