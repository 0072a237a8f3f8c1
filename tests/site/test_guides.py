"""The how-to guides do what they say: their files are written, and their commands run in order.

A block with a title is a file. Commands of a block ``bash`` are run; those of a block ``text`` need
what a test does not have, such as a server.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs" / "howto").glob("*.md"))
TOOLS = Path(sys.executable).parent
#: Commands that other tests run, and which.
ELSEWHERE = {
    "python -m dlsweep devices": "tests/cli/test_devices.py",
    "python -m dlsweep debug=on training.epochs=1 tracking=none": "tests/torch, tests/keras",
    "python -m dlsweep +experiment=mnist training.replicas=2 training.epochs=1 tracking=none "
    "hydra.sweeper.study_name=replicas": "tests/parallel",
}


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(page, "bash")], ids=lambda p: p.stem
)
def test_the_commands_of_a_guide_work(page: Path, tmp_path: Path) -> None:
    for name, text in re.findall(r'```\w+ title="(.*)"\n([^`]*)```', page.read_text()):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    for block in blocks(page, "bash"):
        lines = re.sub(r" \\\n +", " ", block).splitlines()
        lines = [line for line in lines if line not in ELSEWHERE]
        run("\n".join(map(without_trackers, lines)), tmp_path)
    assert unlisted(tmp_path / "outputs") == set()


def unlisted(outputs: Path) -> set[str]:
    """The files of studies and runs that docs/reference/folders.md does not list."""
    page = (ROOT / "docs" / "reference" / "folders.md").read_text()
    folders = {file.parent for name in ("study.json", "run.json") for file in outputs.rglob(name)}
    names = {file.name for folder in folders for file in folder.iterdir()}
    return {name for name in names if not re.search(rf"`{re.escape(name)}[/`]", page)}


def without_trackers(line: str) -> str:
    """Spares a run the trackers that a guide does not speak of."""
    words = shlex.split(line)
    is_run = line.startswith("python -m dlsweep ") and "=" in words[3]
    return f"{line} tracking=none" if is_run and "tracking" not in line else line


def run(script: str, folder: Path) -> str:
    path = {"PATH": f"{TOOLS}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-euc", script],
        cwd=folder,
        env={**os.environ, **path},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_the_examples_of_errors_are_what_is_printed(tmp_path: Path) -> None:
    examples = [
        re.match(r"\$ ([^\n]*)\n(.*)", block, re.DOTALL)
        for block in blocks(ROOT / "docs" / "reference" / "errors.md", "text")
    ]
    assert len(examples) >= 7
    for example in examples:
        assert example is not None
        words = [sys.executable, *shlex.split(example[1])[1:]]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=100)
        assert (done.returncode, done.stderr, done.stdout) == (1, example[2], ""), example[1]
