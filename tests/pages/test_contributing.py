"""The worked examples of CONTRIBUTING.md: files and commands, in an empty folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from pages import ROOT, Shell, blocks, walk

pytestmark = pytest.mark.slow

PAGE = ROOT / "CONTRIBUTING.md"
WRITTEN = [
    "metrics.db",
    "outputs/nice/trials.csv",
    "outputs/numpy/trials/0003/checkpoints",
    "outputs/rings/trials.csv",
]


def test_the_examples_work_as_they_are_shown(tmp_path: Path, warm: Shell) -> None:
    walk(PAGE, tmp_path, warm)
    assert [name for name in WRITTEN if not (tmp_path / name).exists()] == []


def test_an_example_is_short() -> None:
    files = [one.text.splitlines() for one in blocks(PAGE) if one.language == "python"]
    assert len(files) == len(WRITTEN)
    assert max(sum(bool(line) for line in lines) for lines in files) <= 45
