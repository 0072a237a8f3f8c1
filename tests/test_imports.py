"""Each framework has one owner, imports go down only, and nothing heavy loads unasked."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import dlsweep

ROOT = Path(dlsweep.__file__).parent
HEAVY = (
    "torch",
    "tensorflow",
    "keras",
    "mlflow",
    "tensorboard",
    "wandb",
    "onnxruntime",
    "ray",
    "starlette",
    "submitit",
    "uvicorn",
)
OWNERS = {
    "torch": {
        "runtimes/program.py",
        "torch/batch_norm.py",
        "torch/batches.py",
        "torch/export.py",
        "torch/files.py",
        "torch/loader.py",
        "torch/means.py",
        "torch/models.py",
        "torch/parallel.py",
        "torch/param_groups.py",
        "torch/profiler.py",
        "torch/shares.py",
        "torch/state.py",
        "torch/trainer.py",
        "torch/units.py",
    },
    "keras": {
        "keras/accumulate.py",
        "keras/average.py",
        "keras/batch_norm.py",
        "keras/batches.py",
        "keras/building.py",
        "keras/export.py",
        "keras/files.py",
        "keras/first.py",
        "keras/fit.py",
        "keras/litert.py",
        "keras/metrics.py",
        "keras/models.py",
        "keras/optimizers.py",
        "keras/parallel.py",
        "keras/param_groups.py",
        "keras/saved_model.py",
        "keras/state.py",
        "keras/tensorflow.py",
        "keras/trainer.py",
        "keras/units.py",
        "runtimes/keras_file.py",
        "trainers/histograms.py",
    },
    "tensorflow": {
        "keras/litert.py",
        "keras/parallel.py",
        "keras/pipeline.py",
        "keras/saved_model.py",
        "keras/tensorflow.py",
        "runtimes/saved_model.py",
    },
    "ai_edge_litert": {"runtimes/litert.py"},
    "onnx": {"export/onnx_graph.py"},
    "onnxruntime": {"export/quantize.py", "runtimes/onnx.py"},
    "ray": {"launchers/ray.py", "launchers/ray_actor.py"},
    "submitit": {"launchers/slurm.py", "launchers/slurm_job.py"},
    "starlette": {"serve/app.py"},
    "uvicorn": {"serve/server.py"},
    "orjson": {"serve/contract.py"},
    "safetensors": {"torch/files.py"},
    "mlflow": {
        "trackers/mlflow/artifacts.py",
        "trackers/mlflow/entities.py",
        "trackers/mlflow/exports.py",
        "trackers/mlflow/logged.py",
        "trackers/mlflow/media.py",
        "trackers/mlflow/models.py",
        "trackers/mlflow/report.py",
        "trackers/mlflow/tracker.py",
    },
    "tensorboard": {"trackers/tensorboard.py"},
    "wandb": {
        "trackers/wandb/artifacts.py",
        "trackers/wandb/curve.py",
        "trackers/wandb/offline.py",
        "trackers/wandb/tracker.py",
    },
    "optuna": {
        "results/database.py",
        "results/report/data.py",
        "results/report/importance.py",
        "results/report/lineage.py",
        "results/tables.py",
        "sweep/earlier.py",
        "sweep/growth.py",
        "sweep/hub.py",
        "sweep/parts.py",
        "sweep/pausing.py",
        "sweep/pbt.py",
        "sweep/points.py",
        "sweep/population.py",
        "sweep/promotion.py",
        "sweep/quick_pruners.py",
        "sweep/seen.py",
        "sweep/space.py",
        "sweep/storage.py",
        "sweep/study.py",
        "sweep/warm_start.py",
    },
    "optunahub": {"sweep/hub.py"},
}
#: Private names of libraries that are used, and where: each in one module, which says why.
PRIVATE = {
    "folders/yaml_text.py": {
        "omegaconf._utils.get_omega_conf_dumper",
        "omegaconf._utils.get_yaml_loader",
        "omegaconf._yaml.get_yaml_loader",
    },
    "keras/batch_norm.py": {"_flatten_layers"},
    "keras/parallel.py": {
        "_all_reduce_sum_gradients",
        "_clip_gradients",
        "_maybe_symbolic_build",
        "_symbolic_build",
    },
    "launchers/ray.py": {"_private", "_worker_logs_enabled"},
    "launchers/warm.py": {"_clear", "_exit_function", "_run_exitfuncs", "_shutdown"},
    "sweep/app.py": {"hydra._internal.utils.get_args_parser"},
    "sweep/compose.py": {
        "hydra._internal.config_loader_impl.ConfigLoaderImpl",
        "_apply_overrides_to_config",
    },
    "sweep/quick_pruners.py": {"_storage"},
    "sweep/space.py": {"_get_value_element_as_str"},
    "sweep/storage.py": {"_trial_id"},
    "sweep/study.py": {"_stop_flag", "_thread_local"},
    "sweep/warm_start.py": {"_get_generation_key"},
    "torch/batch_norm.py": {"torch.nn.modules.batchnorm._BatchNorm"},
    "trackers/mlflow/tracker.py": {
        "_artifact_repos_cache",
        "mlflow.tracking._tracking_service.utils",
    },
    "trial/signature.py": {"hydra._internal.utils._locate"},
}
#: The house, from the ground up: a room imports only from rooms on lower floors.
FLOORS = [
    {"errors"},
    {"machine", "security"},
    {"folders"},
    {"data", "run", "runtimes"},
    {"launchers", "trainers"},
    {"torch", "trackers", "trial"},
    {"drive", "keras"},
    {"results"},
    {"export", "serve"},
    {"sweep"},
    {"cli"},
    {"__init__", "__main__", "_plugins"},
]


NAMES = [path.relative_to(ROOT).as_posix() for path in sorted(ROOT.rglob("*.py"))]


@cache
def sources() -> list[tuple[str, ast.Module]]:
    return [(name, ast.parse((ROOT / name).read_text())) for name in NAMES]


@cache
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


def room_of(name: str) -> str:
    return name.partition("/")[0].removesuffix(".py")


#: Each file's dotted name within dlsweep; a package's is that of its folder.
MODULES = {
    name.removesuffix(".py").removesuffix("/__init__").replace("/", "."): name for name in NAMES
}


def own_imports(tree: ast.Module) -> set[str]:
    """The modules of dlsweep that a module imports, also inside its functions."""
    found = {name.removeprefix("dlsweep.") for name in imported(tree) if "dlsweep." in name}
    return found & MODULES.keys()


def test_every_room_has_its_floor() -> None:
    rooms = {room_of(name) for name in NAMES}
    assert sorted(room for floor in FLOORS for room in floor) == sorted(rooms)


def test_imports_go_down_only() -> None:
    floor_of = {room: floor for floor, names in enumerate(FLOORS) for room in names}
    seen = set()
    for name, tree in sources():
        room = room_of(name)
        for other in {found.partition(".")[0] for found in own_imports(tree)} - {room}:
            seen.add((room, other))
            assert floor_of[other] < floor_of[room], f"{name} imports {other}"
    assert ("trial", "run") in seen
    assert ("keras", "torch") in seen, "an import inside a function is not seen"


def reachable() -> dict[str, set[str]]:
    """For each module, every module that its imports lead to."""
    packages = {module for module, name in MODULES.items() if name.endswith("__init__.py")}
    trees = dict(sources())
    reached = {
        module: own_imports(trees[name]) - packages
        for module, name in MODULES.items()
        if module not in packages
    }
    for middle in reached:
        for found in reached.values():
            if middle in found:
                found |= reached[middle]
    return reached


def test_no_module_leads_back_to_itself() -> None:
    assert not [module for module, found in reachable().items() if module in found]


def test_the_sweep_and_the_trial_never_meet() -> None:
    reached = reachable()
    rooms = {module.partition(".")[0] for module in reached["trial.task"]}
    assert not rooms & {"sweep", "drive", "trackers", "results", "cli"}
    assert "trial.task" not in reached["sweep.sweep"]


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def private_names(tree: ast.Module) -> set[str]:
    """Names of others that begin with an underscore: imported, or reached by a dot."""
    own = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and "dlsweep" not in node.module:
            found = [f"{node.module}.{alias.name}" for alias in node.names]
            names |= {one for one in found if any(map(is_private, one.split(".")))}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id in ("self", "cls"):
                own.add(node.attr)
            elif is_private(node.attr):
                names.add(node.attr)
        elif isinstance(node, ast.Attribute) and is_private(node.attr):
            names.add(node.attr)
    return names - own - {"_exit"}  # of os, which is documented


def test_each_private_name_of_a_library_has_one_owner() -> None:
    found = {name: private_names(tree) for name, tree in sources()}
    assert {name: names for name, names in found.items() if names} == PRIVATE
    every = [one for names in PRIVATE.values() for one in names]
    assert len(every) == len(set(every))


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
        "sys.argv = ['dlsweep', '--help']; from dlsweep.cli.main import main; main()",
        "import dlsweep.trial.task",
        "import dlsweep.sweep.multirun, dlsweep.sweep.sweep",
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
