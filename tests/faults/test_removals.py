"""A removal that is killed leaves the best checkpoint valid, and the next one does the rest."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from dlsweep.folders.rundir import RunDir
from dlsweep.run.keeping import surplus
from dlsweep.run.run import Run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

REMOVES = """
import os, sys
from dlsweep.folders.rundir import RunDir
from dlsweep.run.keeping import surplus

found = surplus(RunDir(sys.argv[1]), keeps_weights=True)
os.access("/the removal begins here", 0)
found.remove("best")
os.access("/the removal ends here", 0)
"""
#: What changes the disk.
CALLS = "access,openat,write,fsync,rename,unlinkat,rmdir,unlink"
LEFT = ["step-00000002/manifest.json", "step-00000002/weights"]


def write(folder: Path) -> None:
    (folder / "weights").write_text("w" * 5000)
    (folder / "optimizer").write_text("o" * 9000)


def remove(run: RunDir, under: list[str]) -> None:
    command = [*under, sys.executable, "-c", REMOVES, str(run.path)]
    subprocess.run(command, capture_output=True, text=True, timeout=60)


def points(trace: str) -> list[tuple[str, int]]:
    """Each system call of the removal: its name, and which of that name it is."""
    seen: Counter[str] = Counter()
    found: list[tuple[str, int]] = []
    is_removing = False
    for name, rest in re.findall(r"^(\w+)\((.*)", trace, re.MULTILINE):
        seen[name] += 1
        if name == "access":
            is_removing = "the removal begins" in rest
        elif is_removing:
            found.append((name, seen[name]))
    return found


def test_a_kill_at_any_call_leaves_the_best_checkpoint_valid(
    make_run, strace, times, tmp_path, capsys
) -> None:
    trained = make_run()
    with Run.open(trained.path) as run:
        for step, score in enumerate((0.5, 0.9, 0.7, 0.6), start=1):
            run.checkpoints.save(step, write, {"val/accuracy": score}, resume_only=["optimizer"])
    traced = RunDir(shutil.copytree(trained.path, tmp_path / "traced"))
    remove(traced, strace(CALLS, tmp_path / "trace"))
    found = points((tmp_path / "trace").read_text())
    assert {name for name, _ in found} >= {"write", "fsync", "rename", "unlink"}
    stride = max(1, len(found) // times("kills at the calls of a removal"))
    for number, (call, turn) in enumerate(found[::stride]):
        copy = RunDir(shutil.copytree(trained.path, tmp_path / f"copy-{number}"))
        remove(copy, strace(call, inject=f"signal=KILL:when={turn}"))
        best = Run(copy).checkpoints.need_best()
        assert (best.step, (best.path / "weights").read_text()) == (2, "w" * 5000), (call, turn)
        assert best.is_whole <= (best.path / "optimizer").exists(), (call, turn)
        assert capsys.readouterr().err == "", "none is damaged"
        surplus(copy, keeps_weights=True).remove("best")
        names = [str(file.relative_to(copy.checkpoints)) for file in copy.checkpoints.rglob("*/*")]
        assert sorted(names) == LEFT, (call, turn)
