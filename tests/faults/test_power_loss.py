"""Power is lost: what was not synced is gone, and the run goes on from a whole checkpoint.

The system calls of a run that saves are recorded, and replayed on a model of a disk. What would be
left after each of them is written to a folder, and gone on with.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dlsweep.folders.rundir import RunDir
from dlsweep.run.run import Run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
SAVES = """
import os, sys
from dlsweep.run.run import Run

def write(folder):
    for name in "ab":
        (folder / name).write_text(str(step) * 5000)

with Run.open(sys.argv[1]) as run:
    for step in range(1, 6):
        run.log({"val/accuracy": step / 10}, step)
        run.checkpoints.save(step, write, {"val/accuracy": step / 10})
        os.access(f"/saved {step}", 0)
"""
CALLS = "access,openat,write,fsync,fdatasync,mkdir,rename,unlinkat,rmdir,unlink"


@dataclass
class File:
    data: bytes = b""
    synced: bytes = b""


@dataclass
class Folder:
    data: dict[str, File | Folder] = field(default_factory=dict)
    synced: dict[str, File | Folder] = field(default_factory=dict)


class Disk:
    """What a folder holds, and what of it would outlive a loss of power."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.root = Folder()

    def find(self, path: Path) -> File | Folder:
        node: File | Folder = self.root
        for part in path.relative_to(self.path).parts:
            node = node.data[part]
        return node

    def do(self, call: str, paths: list[Path], text: bytes, flags: str) -> None:
        """Does what a system call did; the last of its paths names what it made or changed."""
        path = paths[-1]
        holder = self.find(path.parent)
        if call == "mkdir":
            holder.data[path.name] = Folder()
        elif call == "openat" and "O_CREAT" in flags:
            file = holder.data.setdefault(path.name, File())
            file.data = b"" if "O_TRUNC" in flags else file.data
        elif call == "write":
            self.find(path).data += text
        elif call in ("fsync", "fdatasync"):
            node = self.find(path)
            node.synced = node.data.copy() if isinstance(node, Folder) else node.data
            holder.synced.setdefault(path.name, node)  # as Linux's file systems do for a new file
        elif call == "rename":
            holder.data[path.name] = self.find(paths[0].parent).data.pop(paths[0].name)
        elif call in ("unlink", "unlinkat", "rmdir"):
            del holder.data[path.name]


def outlives(folder: Folder, to: Path, names: str) -> None:
    """Writes what is left: all data that was synced, under every name or under the synced ones."""
    to.mkdir(exist_ok=True)
    for name, node in getattr(folder, names).items():
        if isinstance(node, Folder):
            outlives(node, to / name, names)
        else:
            (to / name).write_bytes(node.synced)


def calls(trace: str) -> Iterator[tuple[str, list[bytes], str]]:
    """Each call that did something: its name, its strings and paths, and the rest of the line."""
    begun: dict[str, str] = {}
    for line in trace.splitlines():
        thread, _, text = line.partition(" ")
        if text.endswith("<unfinished ...>"):
            begun[thread] = text.removesuffix("<unfinished ...>")
            continue
        if resumed := re.match(r" *<\.\.\. \w+ resumed>", text):
            text = begun.pop(thread) + text[resumed.end() :]
        if done := re.match(r" *(\w+)\((.*)\) += (\d+|-1 ENOENT)", text):
            found = re.findall(r'"((?:\\x..)*)"|\d<((?:\\x..)*)>', done[2])
            texts = [bytes.fromhex((one or path).replace("\\x", "")) for one, path in found]
            if done[1] == "access" or done[3].isdigit():
                yield done[1], texts, done[2]


@pytest.mark.parametrize("names", ["data", "synced"])
def test_after_a_loss_of_power_at_any_call_a_run_goes_on_from_a_whole_checkpoint(
    make_run, strace, tmp_path, capsys, names: str
) -> None:
    """Twice: with every change of names on the disk at once, and with none before its sync."""
    run = make_run()
    shutil.copytree(run.path, tmp_path / "before")
    under = [*strace(CALLS, tmp_path / "trace"), "-f", "-xx", "-s", "65536"]
    subprocess.run([*under, sys.executable, "-c", SAVES, str(run.path)], check=True, timeout=120)
    disk, saved, losses = Disk(run.path), 0, 0
    for call, texts, flags in calls((tmp_path / "trace").read_text()):
        if call == "access" and texts[0].startswith(b"/saved"):
            saved = int(texts[0].split()[1])
        many = texts[:1] if call == "write" else texts
        paths = [Path(text.decode()) for text in many]
        if call == "unlinkat":
            paths = [paths[0] / paths[1]]
        makes = call not in ("access", "openat") or "O_CREAT" in flags
        if not makes or run.path not in paths[-1].parents:
            continue
        disk.do(call, paths, texts[-1], flags)
        losses += 1
        left = tmp_path / f"{losses:04d}"
        shutil.copytree(tmp_path / "before", left)
        outlives(disk.root, left, names)
        assert_goes_on(RunDir(left), saved)
        assert capsys.readouterr().err == "", "not one is there in part"
        shutil.rmtree(left)
    assert saved == 5
    assert losses > 80


def assert_goes_on(left: RunDir, saved: int) -> None:
    with Run.open(left.path) as run:
        latest = run.checkpoints.latest()
        step = latest.step if latest else 0
        assert step in (saved, saved + 1)
        assert len(list(left.checkpoints.glob("step-*"))) >= min(step, 2)
        for name in "ab" if latest else "":
            assert (latest.path / name).read_text() == str(step) * 5000
        steps = [record.step for record, _ in left.records()]
        assert steps == list(range(1, len(steps) + 1))
        assert len(steps) >= step, "all that the checkpoint counts on"
