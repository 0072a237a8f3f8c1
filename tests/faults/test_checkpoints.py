"""A save that is killed, or that the disk refuses, leaves the checkpoint before it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from dlsweep.folders.rundir import RunDir
from dlsweep.run.checkpoint import Checkpointer
from dlsweep.run.run import Run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
#: Logs and saves steps 1 to 3, then a marker, then step 4: the save that is disturbed. What is done
#: side by side is done in line here, for strace counts the calls of each thread alone.
SAVES = """
import os, sys
from concurrent.futures import Executor, Future
import dlsweep.run.checkpoint
from dlsweep.run.run import Run

class InLine(Executor):
    def __init__(self, workers=None):
        pass

    def submit(self, call, *arguments):
        future = Future()
        try:
            future.set_result(call(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future

dlsweep.run.checkpoint.ThreadPoolExecutor = InLine

def write(folder):
    for name in ("a", "b", "c"):
        (folder / name).write_text(str(step) * 5000)

with Run.open(sys.argv[1]) as run:
    for step in range(1, 5):
        if step == 4:
            os.access("/the save begins here", 0)
        run.log({"val/accuracy": step / 10}, step)
        run.checkpoints.save(step, write, {"val/accuracy": step / 10})
    os.access("/the save ends here", 0)
"""
#: What changes the disk, or reads back what is on it, during a save.
CALLS = "access,openat,read,write,fsync,mkdir,rename,unlinkat,rmdir,unlink,close"


def points(trace: str) -> Iterator[tuple[str, int]]:
    """Each system call of the last save: its name, and which of that name it is."""
    seen: Counter[str] = Counter()
    is_saving = False
    for name, rest in re.findall(r"^(\w+)\((.*)", trace, re.MULTILINE):
        seen[name] += 1
        if name == "access":
            is_saving = "the save begins here" in rest or (is_saving and "ends here" not in rest)
        elif is_saving:
            yield name, seen[name]


def save(run: RunDir, under: list[str]) -> subprocess.CompletedProcess[str]:
    command = [*under, sys.executable, "-c", SAVES, str(run.path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def whole(run: RunDir, step: int) -> bool:
    found = run.checkpoints / f"step-{step:08d}"
    return all((found / name).read_text() == str(step) * 5000 for name in "abc")


@pytest.mark.parametrize("fault", ["signal=KILL", "error=ENOSPC", "error=EIO"])
def test_a_fault_at_any_call_of_a_save_leaves_one_to_go_on_from(
    make_run, strace, times, tmp_path, capsys, fault: str
) -> None:
    save(make_run(name="9999"), strace(CALLS, tmp_path / "trace"))
    found = list(points((tmp_path / "trace").read_text()))
    assert {name for name, _ in found} >= {"write", "fsync", "rename", "mkdir"}
    stride = max(1, len(found) // times(f"{fault} at the calls of a save"))
    for number, (call, turn) in enumerate(found[::stride]):
        run = make_run(name=f"{number:04d}")
        save(run, strace(call, inject=f"{fault}:when={turn}"))
        with Run.open(run.path) as again:
            latest = again.checkpoints.latest()
            assert latest.step in (3, 4), (call, turn)
            assert whole(run, latest.step)
            assert whole(run, 3 if latest.step == 4 else 2), "never fewer than two"
            assert capsys.readouterr().err == "", "not one is there in part"
            steps = [record.step for record, _ in run.records()]
            assert steps == list(range(1, len(steps) + 1))
            again.log({"val/accuracy": 0.5}, 5)
            again.checkpoints.save(5, lambda folder: (folder / "a").touch())
        assert not list(run.checkpoints.glob(".*")), "what the fault left is cleared away"


def test_everything_is_synced_before_it_counts(make_run, strace, tmp_path) -> None:
    """The order of the calls is the proof against power loss: what is not synced may be lost."""
    run = make_run()
    save(run, strace(CALLS, tmp_path / "trace"))
    lines = (tmp_path / "trace").read_text().splitlines()
    lines = lines[next(n for n, line in enumerate(lines) if "save begins here" in line) :]

    def last(pattern: str) -> int:
        return max(n for n, line in enumerate(lines) if re.match(pattern, line))

    final = rf"{run.checkpoints}/step-00000004"
    aside = rf"{run.checkpoints}/\.step-00000004\.new"
    renamed = last(rf'rename\("{aside}", "{final}"\) += 0')
    for name in ("a", "b", "c", "manifest.json"):
        written, synced = last(rf"write\(\d+<{aside}/{name}>"), last(rf"fsync\(\d+<{aside}/{name}>")
        assert written < synced < renamed, f"{name} is on the disk before it has its name"
    assert last(rf"fsync\(\d+<{aside}>\) += 0") < renamed, "the names of its files too"
    records = last(rf"fsync\(\d+<{run.records_file}>\) += 0")
    assert last(rf"write\(\d+<{run.records_file}>") < records < renamed, "and what it counts on"
    listed = last(rf"fsync\(\d+<{run.checkpoints}>\) += 0")
    removed = last(rf'rename\("{run.checkpoints}/step-00000002", ')
    assert renamed < listed < removed, "an older one goes when the new one is there for good"


#: Begins to save step 1, whose syncs do not get far, and is killed.
KILLED_WHILE_SYNCING = """
import os, signal, sys
from dlsweep.run.run import Run

with Run.open(sys.argv[1]) as run:
    run.log({"val/accuracy": 0.5}, 1)
    run.checkpoints.begin_save(1, lambda folder: (folder / "a").write_text("weights"))
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def unsynced(make_run, strace) -> RunDir:
    """A run whose checkpoint was written whole, by a process that was killed before the syncs."""
    run = make_run()
    strace_all = [*strace("fsync", inject="delay_enter=30s"), "-f"]
    subprocess.run([*strace_all, sys.executable, "-c", KILLED_WHILE_SYNCING, str(run.path)])
    assert [path.name for path in run.checkpoints.iterdir()] == [".step-00000001.new"]
    return run


def test_a_kill_while_a_checkpoint_is_synced_loses_nothing(unsynced: RunDir) -> None:
    with Run.open(unsynced.path) as run:
        assert (run.checkpoints.latest().path / "a").read_text() == "weights"
        assert [record.step for record, _ in unsynced.records()] == [1]
    assert [path.name for path in unsynced.checkpoints.iterdir()] == ["step-00000001"]


@pytest.mark.parametrize("lost", ["records", "weights", "manifest"])
def test_what_a_power_loss_took_of_it_is_noticed(unsynced: RunDir, lost: str) -> None:
    aside = unsynced.checkpoints / ".step-00000001.new"
    files = {"weights": aside / "a", "manifest": aside / "manifest.json"}
    files.get(lost, unsynced.records_file).write_text("")
    with Run.open(unsynced.path) as run:
        assert run.checkpoints.latest() is None
        run.checkpoints.save(1, lambda folder: (folder / "a").write_text("again"))
    assert [path.name for path in unsynced.checkpoints.iterdir()] == ["step-00000001"]


def test_what_the_disk_did_not_take_is_not_taken_up(make_run, strace) -> None:
    run = make_run()
    under = [*strace("fsync", inject="error=EIO"), "-f"]
    code = KILLED_WHILE_SYNCING.replace("os.kill(os.getpid(), signal.SIGKILL)", "")
    process = subprocess.run(
        [*under, sys.executable, "-c", code, str(run.path)], capture_output=True, text=True
    )
    assert "Input/output error" in process.stderr
    assert not list(run.checkpoints.iterdir())


def test_a_checkpoint_of_another_run_is_skipped_and_said(make_run, capsys) -> None:
    mine, other = make_run(name="0000"), make_run(name="0001")
    for folder, step in ((mine, 1), (other, 9)):
        with Run.open(folder.path) as run:
            run.checkpoints.save(step, lambda folder: (folder / "a").touch())
    (other.checkpoints / "step-00000009").rename(mine.checkpoints / "step-00000009")
    with Run.open(mine.path) as run:
        assert run.checkpoints.latest().step == 1
    assert "step-00000009: it was saved by another run" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"step": "../../x"}', '{"step": 2, "files": 3}'])
def test_a_manifest_of_any_kind_is_skipped_and_said(tmp_path: Path, capsys, text: str) -> None:
    checkpoints = Checkpointer(tmp_path)
    checkpoints.save(1, lambda folder: (folder / "a").touch())
    (tmp_path / "step-00000002").mkdir()
    (tmp_path / "step-00000002" / "manifest.json").write_text(text)
    assert Checkpointer(tmp_path).latest().step == 1
    assert "step-00000002: its manifest" in capsys.readouterr().err


def test_damaged_ones_do_not_count_as_kept(tmp_path: Path, capsys) -> None:
    def write(folder: Path) -> None:
        (folder / "a").write_text("whole")

    for step in (1, 2):
        Checkpointer(tmp_path).save(step, write)
    (tmp_path / "step-00000002" / "a").write_text("wrong")
    checkpoints = Checkpointer(tmp_path)
    for step in (3, 4):
        checkpoints.save(step, write)
        assert (tmp_path / f"step-{step - 2 if step == 3 else 3:08d}").exists()
    assert capsys.readouterr().err.count("Skipping") == 1


def test_a_link_in_a_checkpoint_is_not_followed(tmp_path: Path, capsys) -> None:
    checkpoints = Checkpointer(tmp_path / "checkpoints")
    for step in (1, 2):
        checkpoints.save(step, lambda folder: (folder / "a").write_text("same"))
    (tmp_path / "outside").write_text("same")
    file = tmp_path / "checkpoints" / "step-00000002" / "a"
    file.unlink()
    file.symlink_to(tmp_path / "outside")
    assert Checkpointer(tmp_path / "checkpoints").latest().step == 1
    assert "a is missing" in capsys.readouterr().err
