"""The public names: those that docs/api.md lists are those that the packages export."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("", "data", "keras", "launchers", "torch", "trackers", "trainers")


def exported(package: str) -> set[str]:
    """The names in a package's ``__all__``, read without importing a framework."""
    tree = ast.parse((ROOT / "dlsweep" / package / "__init__.py").read_text())
    (names,) = (
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__"
    )
    prefix = f"dlsweep.{package}." if package else "dlsweep."
    return {prefix + name for name in ast.literal_eval(names)}


def test_the_documented_names_are_those_that_are_exported() -> None:
    documented = set(re.findall(r"^\| `([\w.]+)`", (ROOT / "docs/api.md").read_text(), re.M))
    assert documented == set.union(*map(exported, PACKAGES)) - {"dlsweep.__version__"}


def test_configs_and_experiments_use_public_names_only() -> None:
    public = set.union(*map(exported, PACKAGES))
    modules = {name.rpartition(".")[0] for name in public} | {
        # A module of each group whose names a config completes, or a class of a shipped group.
        "dlsweep.keras.optimizers",
        "dlsweep.keras.schedulers",
        "dlsweep.launchers.inline.InlineLauncher",
        "dlsweep.launchers.local.LocalLauncher",
        "dlsweep.launchers.ray.RayLauncher",
        "dlsweep.launchers.slurm.SlurmLauncher",
        "dlsweep.trackers.csv.CSVTracker",
        "dlsweep.trackers.mlflow.MLflowTracker",
        "dlsweep.trackers.tensorboard.TensorBoardTracker",
        "dlsweep.trackers.wandb.WandbTracker",
        # Resolvers.
        "dlsweep.loss",
        "dlsweep.mode",
        "dlsweep.monitor",
    }
    files = [
        *ROOT.glob("conf/**/*.yaml"),
        *ROOT.glob("experiments/*.py"),
        *ROOT.glob("experiments/*.ipynb"),
    ]
    used = {name for file in files for name in re.findall(r"\bdlsweep(?:\.\w+)+", file.read_text())}
    assert used
    assert used <= public | modules
