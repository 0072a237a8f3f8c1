"""The worked examples of CONTRIBUTING.md: each file and each command, in a project of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

PAGE = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text()
EXAMPLES = dict(re.findall(r"^## (A .*? of your own)\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S))


@pytest.mark.parametrize(
    ("title", "written"),
    [
        ("A tracker of your own", "metrics.db"),
        ("A launcher of your own", "outputs/nice/trials.csv"),
        ("A framework of your own", "outputs/numpy/trials/0003/checkpoints"),
        ("A data set of your own", "outputs/rings/trials.csv"),
    ],
)
def test_an_example_works_as_it_is_shown(tmp_path: Path, title: str, written: str) -> None:
    for language, name, text in re.findall(
        r'^```(python|yaml) title="([^"]+)"\n(.*?)```', EXAMPLES[title], re.MULTILINE | re.DOTALL
    ):
        assert language == "yaml" or len([line for line in text.splitlines() if line]) <= 45
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (command,) = re.findall(r"^```bash\n(.*?)```", EXAMPLES[title], re.MULTILINE | re.DOTALL)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r": [24] trials \(.*completed", done.stdout), done.stdout
    assert (tmp_path / written).exists()


def test_there_is_an_example_for_each_seam() -> None:
    assert len(EXAMPLES) == 4
