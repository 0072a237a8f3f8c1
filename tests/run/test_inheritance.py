"""A run that goes on from another run's checkpoint: whole and verified, or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from dlsweep.errors import StudyError
from dlsweep.folders.attempt import Attempt
from dlsweep.folders.lineage import Inheritance, lineage_of, write_lineage
from dlsweep.folders.rundir import RunDir
from dlsweep.run.inheritance import newest, stage, take
from dlsweep.run.run import Run


@pytest.fixture
def donor(make_run: Callable[..., RunDir]) -> RunDir:
    return trained(make_run(name="0001"), 5)


@pytest.fixture
def heir(make_run: Callable[..., RunDir]) -> RunDir:
    return trained(make_run(name="0002"), 3)


def trained(folder: RunDir, steps: int) -> RunDir:
    Attempt.begin(folder)
    with Run.open(folder.path) as run:
        for step in range(1, steps + 1):
            run.log({"val/accuracy": step / 10}, step)
            text = f"{folder.path.name} at {step}"
            metrics = {"val/accuracy": step / 10}
            run.checkpoints.save(step, lambda aside, text=text: write(aside, text), metrics)
    return folder


def write(folder: Path, text: str) -> None:
    (folder / "weights").write_text(text)


def entry(step: int, at: int = 3) -> Inheritance:
    return Inheritance(at, 1, step, f"step-{step:08d}", {"lr": 0.1}, {"lr": [0.2, 0.1]})


def test_the_newest_checkpoint_between_two_steps_is_chosen(donor: RunDir) -> None:
    assert [newest(donor, 1, most).step for most in (5, 4)] == [5, 4]
    assert newest(donor, 1, 3) is None, "two are kept, of the steps 4 and 5"
    assert newest(donor, 6, 9) is None


def test_it_takes_the_place_of_the_runs_own(donor: RunDir, heir: RunDir) -> None:
    lineage = [Inheritance.beginning({"lr": 0.3}), entry(5)]
    before = (donor.checkpoints / "step-00000005" / "weights").read_text()
    assert stage(newest(donor, 3, 8), heir, lineage[-1])
    take(heir, lineage)
    take(heir, lineage)
    Attempt.begin(heir)
    with Run.open(heir.path) as run:
        found = run.checkpoints.latest()
        assert run.checkpoints.best() == found, "of its own ones none is left"
        assert (found.step, found.is_inherited, found.metrics) == (5, True, {"val/accuracy": 0.5})
        assert (found.path / "weights").read_text() == "0001 at 5"
        for step in (5, 6):
            run.log({"val/accuracy": 0.9}, step)
            run.checkpoints.save(step, lambda aside: write(aside, "0002 again"))
        assert not run.checkpoints.latest().is_inherited
    steps = [record.step for record, _ in heir.records()]
    assert steps == [1, 2, 3, 5, 6]
    assert (donor.checkpoints / "step-00000005" / "weights").read_text() == before


def test_what_was_not_decided_is_not_taken(donor: RunDir, heir: RunDir) -> None:
    assert stage(newest(donor, 3, 8), heir, entry(5))
    take(heir, [Inheritance.beginning({"lr": 0.3})])
    assert not (heir.path / "inherited").exists()
    assert Run(heir).checkpoints.latest().step == 3


def test_a_kill_between_the_removal_and_the_change_of_place_loses_nothing(
    donor: RunDir, heir: RunDir
) -> None:
    assert stage(newest(donor, 3, 8), heir, entry(5))
    for own in heir.checkpoints.iterdir():
        own.rename(own.with_name(f".{own.name}.retired"))
    take(heir, [entry(5)])
    Attempt.begin(heir)
    assert Run(heir).checkpoints.latest().step == 5


def test_a_damaged_checkpoint_is_not_copied(donor: RunDir, heir: RunDir) -> None:
    found = newest(donor, 3, 8)
    (found.path / "weights").write_text("0001 at 6")
    assert not stage(found, heir, entry(5))
    assert not (heir.path / "inherited").exists()
    for file in found.path.iterdir():
        file.unlink()
    assert newest(donor, 3, 8).step == 4, "one that is being removed is passed over"


def test_no_file_from_elsewhere_is_copied(donor: RunDir, heir: RunDir, tmp_path: Path) -> None:
    found = newest(donor, 3, 8)
    secret = tmp_path / "secret"
    secret.write_text("0001 at 5")
    (found.path / "weights").unlink()
    (found.path / "weights").symlink_to(secret)
    assert not stage(found, heir, entry(5))
    manifest = json.loads((found.path / "manifest.json").read_text())
    manifest["files"] = {"../../../secret": manifest["files"]["weights"]}
    (found.path / "manifest.json").write_text(json.dumps(manifest))
    assert not stage(found, heir, entry(5))


def test_a_checkpoint_of_another_run_is_none_of_the_donor(donor: RunDir, heir: RunDir) -> None:
    for one in donor.checkpoints.iterdir():
        manifest = json.loads((one / "manifest.json").read_text())
        manifest["run"] = heir.info().id
        (one / "manifest.json").write_text(json.dumps(manifest))
    assert newest(donor, 1, 8) is None


def test_a_lineage_is_read_as_it_was_written(heir: RunDir) -> None:
    assert lineage_of(heir) == []
    written = [Inheritance.beginning({"lr": 0.3}), entry(5)]
    write_lineage(heir, written)
    assert lineage_of(heir) == written
    (heir.path / "lineage.json").write_text('[{"at": 1}]')
    with pytest.raises(StudyError, match=r"lineage\.json is damaged"):
        lineage_of(heir)
