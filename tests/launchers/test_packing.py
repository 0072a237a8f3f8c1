"""Which GPU a run gets, by what it needs. The GPUs are a library in the place of NVIDIA's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "machine"))
import fake_gpus
from fake_gpus import GB

#: Two GPUs with two slots each; prints where runs with these needs get a slot, one after another.
CODE = """
import json, sys
from pathlib import Path
from dlsweep.launchers.packing import Packing
from dlsweep.machine.devices import Slot

by_count, needs = json.loads(sys.argv[1])
packing = Packing([Slot(("0",), 1), Slot(("1",), 1)] * 2, by_count)
found = []
for number, need in enumerate(needs):
    slot = packing.place(need)
    found.append(slot and slot.gpus[0])
    if slot:
        packing.take(Path(str(number)), slot, need)
crowded = [packing.was_crowded(Path(str(number))) for number in range(len(needs))]
print(json.dumps([found, packing.without_need, crowded]))
"""
SMALL, LARGE, UNKNOWN = {"gpu": 10 * GB}, {"gpu": 60 * GB}, {}
ALONE = {"gpu": float("inf")}


@pytest.fixture
def placed(tmp_path: Path) -> Callable[..., list[Any]]:
    def place(
        *needs: dict[str, float], by_count: bool = False, total: int = 80 * GB, others: int = 0
    ) -> list[Any]:
        machine = tmp_path / str(len(list(tmp_path.iterdir())))
        environment = fake_gpus.build(machine, total)
        used = machine / "gpus" / "1" / str(os.getpid())  # by another process
        used.parent.mkdir()
        used.write_text(str(others))
        if not total:
            (machine / "libnvidia-ml.so.1").unlink()
        code = [sys.executable, "-c", CODE, json.dumps([by_count, needs])]
        env = {**os.environ, **environment}
        found: list[Any] = json.loads(subprocess.check_output(code, env=env))
        return found

    return place


def test_a_gpu_that_nobody_uses_comes_first_and_then_the_one_with_room(placed) -> None:
    found, free, crowded = placed(LARGE, SMALL, SMALL, SMALL)
    assert found == ["0", "1", "0", "1"]
    assert (free, crowded) == (0, [True] * 4)
    found, free, crowded = placed(LARGE, SMALL, LARGE, SMALL)
    assert found == ["0", "1", "1", "0"], "75 of 80 GB is less than 95%"
    assert placed(LARGE, LARGE, SMALL, LARGE)[0] == ["0", "1", "0", None]
    assert placed(LARGE, LARGE)[1:] == [0, [False] * 2]


def test_without_a_prediction_the_count_decides_or_nothing_is_shared(placed) -> None:
    for needs in ((SMALL, SMALL, UNKNOWN), (UNKNOWN, UNKNOWN, SMALL)):
        assert placed(*needs)[0] == ["0", "1", None]
        assert placed(*needs, by_count=True)[0] == ["0", "1", "0"]
    assert placed(SMALL, SMALL, SMALL, total=0)[0] == ["0", "1", None], "no driver tells a total"
    assert placed(LARGE, LARGE, LARGE, by_count=True)[0] == ["0", "1", None], "a fraction, too"
    assert placed(UNKNOWN)[1] == 1
    assert placed(UNKNOWN, by_count=True)[1] == 3


def test_a_run_that_must_be_alone_has_nobody_beside_it(placed) -> None:
    assert placed(SMALL, ALONE, ALONE, SMALL, SMALL)[0] == ["0", "1", None, "0", None]


def test_the_memory_of_the_machine_and_what_others_use_count(placed) -> None:
    hungry = {**SMALL, "host": 1e15}
    assert placed(SMALL, SMALL, hungry)[0] == ["0", "1", None]
    assert placed(hungry, hungry, SMALL)[0] == ["0", "1", None]
    assert placed(hungry, hungry)[0] == ["0", "1"], "as on any machine without sharing"
    assert placed(SMALL, SMALL, SMALL, SMALL, others=70 * GB)[0] == ["0", "1", "0", None]
