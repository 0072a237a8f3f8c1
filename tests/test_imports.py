"""Each framework has one owner, imports go down only, and nothing heavy loads unasked."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import dlsweep

ROOT = Path(dlsweep.__file__).parent
HEAVY = ("torch", "tensorflow", "keras", "mlflow", "tensorboard", "wandb")
OWNERS = {
    "torch": {
        "trainers/torch.py",
        "trainers/torch_batch_norm.py",
        "trainers/torch_files.py",
        "trainers/torch_means.py",
        "trainers/torch_parallel.py",
        "trainers/torch_profiler.py",
        "trainers/torch_state.py",
        "data/torch.py",
        "data/torch_loader.py",
        "data/torch_shares.py",
        "models/torch.py",
    },
    "keras": {
        "trainers/histograms.py",
        "trainers/keras.py",
        "trainers/keras_average.py",
        "trainers/keras_files.py",
        "trainers/keras_fit.py",
        "trainers/keras_state.py",
        "trainers/tensorflow.py",
        "trainers/tensorflow_parallel.py",
        "data/keras.py",
        "models/keras.py",
        "optimizers/keras.py",
    },
    "tensorflow": {
        "trainers/tensorflow.py",
        "trainers/tensorflow_parallel.py",
        "data/tensorflow.py",
    },
    "safetensors": {"trainers/torch_files.py"},
    "mlflow": {
        "trackers/mlflow.py",
        "trackers/mlflow_artifacts.py",
        "trackers/mlflow_charts.py",
        "trackers/mlflow_media.py",
        "trackers/mlflow_models.py",
    },
    "tensorboard": {"trackers/tensorboard.py"},
    "wandb": {"trackers/wandb.py"},
    "optuna": {"study.py", "study_storage.py", "search_space.py", "results.py", "charts.py"},
    "matplotlib": {"charts.py"},
}
#: Lower floors know nothing of higher ones; rooms of one floor know nothing of each other.
FLOORS = [
    {"errors"},
    {"lock", "rundir"},
    {"channel", "media", "ranks"},
    {"checkpoint"},
    {"run"},
    {"data", "models", "optimizers", "schedulers"},
    {"launchers", "trackers", "trainers"},
    {"mirror", "sweep", "task"},
    {"multirun"},
]


def sources() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(ROOT.rglob("*.py")):
        yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text())


def imported(tree: ast.Module, top_level: bool = False) -> set[str]:
    """The dotted names that a module imports: anywhere, or at its top level."""
    names: set[str] = set()
    for node in tree.body if top_level else ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


@pytest.mark.parametrize("package", OWNERS)
def test_only_its_owners_import_a_heavy_package(package: str) -> None:
    users = {
        name
        for name, tree in sources()
        if any(found.partition(".")[0] == package for found in imported(tree))
    }
    assert users <= OWNERS[package]
    assert users, "a rule about nothing"


def rooms(names: set[str]) -> set[str]:
    return {name.split(".")[1] for name in names if name.startswith("dlsweep.")}


def test_imports_go_down_only() -> None:
    floor_of = {room: floor for floor, names in enumerate(FLOORS) for room in names}
    seen = set()
    for name, tree in sources():
        room = name.partition("/")[0].removesuffix(".py")
        for other in rooms(imported(tree)) & floor_of.keys() if room in floor_of else ():
            seen.add((room, other))
            assert room == other or floor_of[other] < floor_of[room], f"{name} imports {other}"
    assert ("run", "channel") in seen
    assert ("task", "run") in seen


def test_the_sweep_and_the_trial_never_meet() -> None:
    reached = {name.removesuffix(".py"): rooms(imported(tree)) for name, tree in sources()}

    def closure(room: str, known: set[str]) -> set[str]:
        for other in reached.get(room, set()) - known:
            closure(other, known | {other})
            known |= closure(other, known | {other})
        return known

    assert not closure("task", set()) & {"sweep", "study", "search_space", "driver", "mirror"}
    assert "task" not in closure("sweep", set())


#: What `make quick` does before its first test.
COLLECT = """
import pytest
pytest.main(["--collect-only", "-q", "-m", "not slow", sys.argv[1]])
"""


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(COLLECT, marks=pytest.mark.slow, id="the quick part of the tests"),
        "import dlsweep",
        "sys.argv = ['dlsweep', '--help']; from dlsweep.cli import main; main()",
        "import dlsweep.task",
        "import dlsweep.multirun, dlsweep.sweep",
    ],
)
def test_nothing_heavy_is_loaded_unasked(code: str, tmp_path: Path) -> None:
    report = (
        "import atexit, json, sys\natexit.register(lambda: print(json.dumps([*sys.modules])))\n"
    )
    child = subprocess.run(
        [sys.executable, "-c", report + code, str(Path(__file__).parent)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    loaded = set(json.loads(child.stdout.splitlines()[-1]))
    assert "dlsweep" in loaded
    assert not loaded & set(HEAVY)
