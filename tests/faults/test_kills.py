"""Whatever is killed, the same command ends with what an undisturbed sweep ends with."""

from __future__ import annotations

import re
import zipfile
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
WALK = ("tracking=none", "training._target_=walk.train", "training.seconds=0.05", "-m")
ONE_SLOT = (*WALK, "hydra.sweeper.n_trials=14", "hydra.sweeper.n_jobs=1")
#: What an interruption must leave alone; the other columns tell time and place.
COLUMNS = ["number", "state", "val/loss", "training.x", "training.y"]
WHOM = [
    "kills of the driver",
    "kills of the driver and the parent of trials",
    "kills of the driver and all trials",
]
#: How often one sweep is killed; more kills take more sweeps.
KILLS = 5
#: The system calls with which a driver changes what is on the disk, or starts a trial.
WRITES = "fdatasync,fsync,rename,sendmsg,unlink"


@pytest.fixture(scope="module")
def expected(undisturbed) -> pd.DataFrame:
    undisturbed.run(*ONE_SLOT)
    return undisturbed.table("quadratic")[COLUMNS]


@pytest.mark.parametrize("whom", WHOM)
def test_one_slot_and_a_seed_end_as_if_nothing_had_happened(sweeps, times, expected, whom) -> None:
    assert {"completed", "pruned"} == set(expected["state"])
    left = times(whom)
    while left > 0:
        name = f"left{left}"
        left -= sweeps.kill_at_random(
            whom, min(left, KILLS), *ONE_SLOT, f"hydra.sweeper.study_name={name}"
        )
        sweeps.assert_exactly_once(name, len(expected))
        assert sweeps.table(name)[COLUMNS].equals(expected)


@pytest.mark.parametrize("whom", WHOM)
def test_all_slots_lose_and_double_nothing(sweeps, times, whom) -> None:
    left = times(whom)
    while left > 0:
        name = f"left{left}"
        left -= sweeps.kill_at_random(
            whom,
            min(left, KILLS),
            *WALK,
            "hydra.sweeper.n_trials=20",
            f"hydra.sweeper.study_name={name}",
        )
        sweeps.assert_exactly_once(name, 20)


def test_a_kill_at_any_write_of_the_driver_changes_nothing(
    sweeps, undisturbed, times, strace, tmp_path
) -> None:
    small = (*ONE_SLOT, "training.steps=3", "hydra.sweeper.n_trials=4")
    trace = tmp_path / "trace"
    undisturbed.run(*small, "hydra.sweeper.study_name=small", under=strace(WRITES, trace))
    expected = undisturbed.table("small")[COLUMNS]
    calls = Counter(re.findall(r"^(\w+)\(", trace.read_text(), re.MULTILINE))
    points = [(call, turn) for call, count in calls.items() for turn in range(1, count + 1)]
    stride = max(1, len(points) // times("kills of the driver at its writes"))
    for call, turn in points[::-stride]:
        name = f"{call}{turn}"
        arguments = (*small, f"hydra.sweeper.study_name={name}")
        sweeps.run(*arguments, under=strace(call, inject=f"signal=KILL:when={turn}"), code=-9)
        sweeps.run(*arguments)
        sweeps.assert_exactly_once(name, 4)
        assert sweeps.table(name)[COLUMNS].equals(expected), name


@pytest.mark.parametrize("framework", ["torch", "keras"])
def test_real_training_ends_to_the_bit_as_if_nothing_had_happened(
    sweeps, undisturbed, times, framework: str
) -> None:
    """Weights included: what a checkpoint holds is what it holds after an undisturbed sweep."""
    if not (kills := times("kills of the driver and all trials, with a framework")):
        pytest.skip("it takes minutes: only with --long-faults")
    arguments = (
        "+experiment=mnist",
        f"framework={framework}",
        f"hydra.sweeper.study_name={framework}",
        "tracking=none",
        "deterministic=true",
        "training.epochs=4",
        "training.checkpoint_steps=20",
        "hydra.sweeper.keep=all",
        "hydra.sweeper.n_trials=4",
        "hydra.sweeper.n_jobs=1",
        "-m",
    )
    undisturbed.run(*arguments)
    whom = "kills of the driver and all trials"
    assert sweeps.kill_at_random(whom, kills, *arguments, longest=20)
    columns = ["number", "state", "val/accuracy", "training.optimizer.lr", "model.hidden"]
    expected, found = undisturbed.table(framework)[columns], sweeps.table(framework)[columns]
    assert found.equals(expected)
    for one, other in zip(undisturbed.trials(framework), sweeps.trials(framework), strict=True):
        names = [path.name for path in sorted((one / "checkpoints").glob("step-????????"))]
        for name in names:
            of_torch, of_keras = ("state.pt", "resume.pt"), ("variables.npz", "resume.npz")
            for file in of_torch if framework == "torch" else of_keras:
                files = [trial / "checkpoints" / name / file for trial in (one, other)]
                assert content(files[0]) == content(files[1]), files


def content(file: Path) -> bytes | dict[str, bytes]:
    """A file's bytes; of an archive those of its members, for it notes when they were written."""
    if file.suffix != ".npz":
        return file.read_bytes()
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}
