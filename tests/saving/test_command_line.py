"""From one run to the next on the real command line."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path

import pytest
from pages import Shell

from dlsweep.folders.rundir import RunDir
from dlsweep.trackers.traces import trace_files, viewer_name

pytestmark = pytest.mark.slow

TINY = ("+experiment=mnist", "training.epochs=1", "tracking=none")
#: Runs a command in the test's folder; returns what it prints.
Dlsweep = Callable[..., str]


@pytest.fixture
def dlsweep(warm: Shell, tmp_path: Path) -> Dlsweep:
    def run(*arguments: str, code: int = 0) -> str:
        ended, printed = warm(shlex.join(["python", "-m", "dlsweep", *arguments]), tmp_path)
        assert ended == code, printed
        return printed

    return run


@pytest.mark.parametrize(("framework", "file"), [("torch", "model.pt"), ("keras", "model.keras")])
def test_a_run_starts_with_anothers_weights_and_outlives_it(
    tmp_path: Path, dlsweep: Dlsweep, framework: str, file: str
) -> None:
    tiny, second = (*TINY, f"framework={framework}"), f"second_of_{framework}"
    dlsweep(*tiny, "hydra.run.dir=first")
    said = dlsweep(*tiny, "training.initial_weights=first", f"hydra.run.dir={second}")
    assert f"parameters are taken from {tmp_path}/first/checkpoints/step-00000001" in said
    shutil.rmtree(tmp_path / "first")
    (tmp_path / second / "result.json").unlink()  # as if it had been interrupted at its end
    dlsweep("resume", second)
    assert f"{file}\n" in dlsweep("save", second, file)
    assert (tmp_path / file).stat().st_size > 1000


def test_a_sweep_with_nothing_to_start_from_does_not_start(
    tmp_path: Path, dlsweep: Dlsweep
) -> None:
    space = ("training.optimizer.lr=0.01,0.1", "-m")
    said = dlsweep(*TINY, "training.initial_weights=nowhere", *space, code=1)
    assert f"training.initial_weights: Received {tmp_path}/nowhere, which does not exist." in said
    assert "Traceback" not in said
    assert not list(tmp_path.glob("outputs/*/trials/*"))


@pytest.mark.parametrize("framework", ["torch", "keras"])
def test_a_precision_that_needs_a_gpu_is_refused_before_anything_starts(
    tmp_path: Path, dlsweep: Dlsweep, framework: str
) -> None:
    tiny = (*TINY, f"framework={framework}", "training.device=cpu", "training.precision=fp16")
    said = dlsweep(*tiny, "training.optimizer.lr=0.01,0.1", "-m", code=1)
    ours = said[said.find("training.") :]  # on some CPUs TensorFlow prints lines of its own before
    assert ours.startswith("training.precision: Received 'fp16' on a CPU")
    assert "Traceback" not in said
    assert "Type  training.precision=bf16" in said
    assert not list(tmp_path.glob("outputs/*/trials/*"))


def test_a_swept_start_is_checked_for_each_choice(tmp_path: Path, dlsweep: Dlsweep) -> None:
    dlsweep(*TINY, "hydra.run.dir=first")
    space = ("training.initial_weights=first,nowhere", "-m")
    said = dlsweep(*TINY, *space, code=1)
    assert f"{tmp_path}/nowhere, which does not exist" in said


@pytest.mark.parametrize(
    ("framework", "patterns"),
    [
        ("torch", ["operations.txt", "trace.pt.trace.json"]),
        ("keras", ["plugins/profile/*/*.xplane.pb"]),
    ],
)
def test_a_traced_training_leaves_what_its_viewers_know(
    tmp_path: Path, dlsweep: Dlsweep, framework: str, patterns: list[str]
) -> None:
    dlsweep(*TINY, f"framework={framework}", "training.profiler=on", "hydra.run.dir=run")
    files = trace_files(RunDir(tmp_path / "run"))
    names = [viewer_name(name) for name in files]
    for name, pattern in zip(names, patterns, strict=True):
        assert fnmatch(name, pattern)
    assert all(path.stat().st_size > 1000 for path in files.values())
