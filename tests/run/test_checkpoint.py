"""A checkpoint is whole or not there, whatever happens to the process or the disk."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dlsweep.errors import CheckpointError
from dlsweep.run.checkpoint import Checkpointer


def save(checkpoints: Checkpointer, *steps: int, score: float | None = None) -> None:
    for step in steps:
        metrics = {} if score is None else {"score": score}
        checkpoints.save(step, lambda folder, text=f"weights {step}": fill(folder, text), metrics)


def fill(folder: Path, text: str) -> None:
    (folder / "model.bin").write_text(text * 50)
    (folder / "state.json").write_text(f'"{text}"')


def on_disk(checkpoints: Checkpointer) -> list[int]:
    return sorted(
        int(path.name.removeprefix("step-").rstrip("+")) for path in checkpoints.folder.iterdir()
    )


def test_what_was_saved_is_found_by_another_process(tmp_path: Path) -> None:
    records = tmp_path / "metrics.jsonl"
    records.write_text(120 * " ")
    saved = Checkpointer(tmp_path, records=records, seconds=lambda: 3.5).save(
        7, lambda folder: fill(folder, "seven"), {"score": 0.5}
    )
    found = Checkpointer(tmp_path).latest()
    assert found == saved
    assert (found.step, found.metrics, found.records, found.seconds) == (
        7,
        {"score": 0.5},
        120,
        3.5,
    )
    assert (found.path / "state.json").read_text() == '"seven"'


def test_without_any_there_is_neither_a_latest_nor_a_best(tmp_path: Path) -> None:
    empty = Checkpointer(tmp_path / "none")
    assert empty.latest() is empty.best() is None


def test_the_two_latest_and_the_best_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpointer(tmp_path, "score", "max")
    for step, score in enumerate([0.1, 0.9, 0.3, 0.2, 0.4]):
        save(checkpoints, step, score=score)
        assert checkpoints.latest().step == step
    assert on_disk(checkpoints) == [1, 3, 4]
    assert checkpoints.best().step == 1


def test_more_are_kept_on_request_and_fewer_than_two_refused(tmp_path: Path) -> None:
    checkpoints = Checkpointer(tmp_path, keep=3)
    save(checkpoints, 1, 2, 3, 4)
    assert on_disk(checkpoints) == [2, 3, 4]
    with pytest.raises(CheckpointError, match=r"Received 1\. Expected at least 2"):
        Checkpointer(tmp_path, keep=1)


@pytest.mark.parametrize(("mode", "best"), [("min", 3), ("max", 2)])
def test_the_best_is_the_newest_of_equals_and_never_nan(
    tmp_path: Path, mode: str, best: int
) -> None:
    checkpoints = Checkpointer(tmp_path, "score", mode, keep=9)
    for step, score in enumerate([1.0, 2.0, 2.0, 1.0, float("nan"), float("-inf")]):
        save(checkpoints, step, score=score)
    assert Checkpointer(tmp_path, "score", mode).best().step == best


def test_without_a_rating_the_latest_is_best(tmp_path: Path) -> None:
    save(Checkpointer(tmp_path, "score"), 1, 2)
    assert Checkpointer(tmp_path, "score").best().step == 2
    assert Checkpointer(tmp_path).best().step == 2


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "name", "said"),
    [
        (truncate, "model.bin", "model.bin has 449 bytes, expected 450"),
        (flip, "model.bin", "model.bin does not match its sha256"),
        (Path.unlink, "state.json", "state.json is missing"),
        (truncate, "manifest.json", "its manifest"),
        (Path.unlink, "manifest.json", "its manifest"),
        (shutil.rmtree, "", ""),
    ],
)
def test_a_damaged_one_is_skipped_for_the_one_before_and_said(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[Path], None],
    name: str,
    said: str,
) -> None:
    save(Checkpointer(tmp_path, "score", "max"), 1, score=0.1)
    save(Checkpointer(tmp_path, "score", "max"), 2, score=0.2)
    damage(tmp_path / "step-00000002" / name)
    found = Checkpointer(tmp_path, "score", "max")
    assert found.latest().step == found.best().step == 1
    heard = capsys.readouterr().err
    assert said in heard
    assert ("Skipping the damaged checkpoint" in heard) == bool(said)


def test_the_best_is_whole_whatever_a_damaged_one_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for step, score in ((1, 0.2), (2, 0.9), (3, 0.1)):
        save(Checkpointer(tmp_path, "score", "max", keep=3), step, score=score)
    (tmp_path / "step-00000001" / "state.json").unlink()
    assert Checkpointer(tmp_path, "score", "max").best().step == 2
    assert not capsys.readouterr().err, "the others were not read"
    flip(tmp_path / "step-00000002" / "model.bin")
    assert Checkpointer(tmp_path, "score", "max").best().step == 3
    assert capsys.readouterr().err.count("Skipping the damaged checkpoint") == 2


def test_the_same_step_is_replaced(tmp_path: Path) -> None:
    checkpoints = Checkpointer(tmp_path)
    save(checkpoints, 1, 2)
    for text in ("again", "and again", "and once more"):
        checkpoints.save(2, lambda folder, text=text: fill(folder, text))
        assert on_disk(checkpoints) == [1, 2]
        assert (Checkpointer(tmp_path).latest().path / "state.json").read_text() == f'"{text}"'


def test_a_save_that_fails_leaves_the_one_before(tmp_path: Path) -> None:
    checkpoints = Checkpointer(tmp_path)
    save(checkpoints, 1)

    def half(folder: Path) -> None:
        fill(folder, "half")
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        checkpoints.save(2, half)
    assert checkpoints.latest().step == 1
    save(checkpoints, 3)
    assert on_disk(checkpoints) == [1, 3]


_SAVES = """
import itertools, sys
from pathlib import Path
from dlsweep.run.checkpoint import Checkpointer

checkpoints = Checkpointer(Path(sys.argv[1]))
found = checkpoints.latest()
for step in itertools.count(found.step + 1 if found else 0):
    def write(folder):
        for name in ("a", "b", "c"):
            (folder / name).write_text(f"{step:08d}" * 5000)
    checkpoints.save(step, write)
    print(step, flush=True)
"""


def test_a_kill_at_any_moment_of_many_saves_leaves_one_that_loads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for extra in (0.0, 0.011, 0.023, 0.037):
        child = subprocess.Popen(
            [sys.executable, "-c", _SAVES, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout
        child.stdout.readline()
        time.sleep(extra)
        child.kill()
        with child:
            acknowledged = max([0, *map(int, child.stdout.read().split())])
        found = Checkpointer(tmp_path).latest()
        assert found.step >= acknowledged
        for name in ("a", "b", "c"):
            assert (found.path / name).read_text() == f"{found.step:08d}" * 5000
    assert capsys.readouterr().err == "", "not one is there in part"
    save(Checkpointer(tmp_path), found.step + 1)
    assert not list(tmp_path.glob(".*")), "what the killed saves left is cleared away"
