"""The how-to guides do what they say, and the errors in the reference are what is printed.

A block ``text`` of a guide shows what a test does not have, such as a server.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pages import ROOT, Shell, bash_of, blocks, commands

pytestmark = pytest.mark.slow

GUIDES = [page for page in sorted((ROOT / "docs" / "howto").glob("*.md")) if bash_of(page)]
ERRORS = [one.text for one in blocks(ROOT / "docs" / "reference" / "errors.md")]
#: Commands that other tests run, and which.
ELSEWHERE = {"python -m dlsweep devices": "tests/cli/test_devices.py"}


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.stem)
def test_the_commands_of_a_guide_work(page: Path, tmp_path: Path, warm: Shell) -> None:
    for block in blocks(page):
        if block.file:
            (tmp_path / block.file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / block.file).write_text(block.text)
        elif block.language == "bash":
            for command in commands(block.text):
                if command not in ELSEWHERE:
                    code, printed = warm(command, tmp_path)
                    assert not code, f"{command}\n{printed}"
    assert unlisted(tmp_path / "outputs") == set()


def unlisted(outputs: Path) -> set[str]:
    """The files of studies and runs that docs/reference/folders.md does not list."""
    page = (ROOT / "docs" / "reference" / "folders.md").read_text()
    folders = {file.parent for name in ("study.json", "run.json") for file in outputs.rglob(name)}
    names = {file.name for folder in folders for file in folder.iterdir()}
    return {name for name in names if not re.search(rf"`{re.escape(name)}[/`]", page)}


@pytest.mark.parametrize("example", ERRORS, ids=lambda text: text.partition("\n")[0])
def test_an_example_of_an_error_is_what_is_printed(
    example: str, tmp_path: Path, warm: Shell
) -> None:
    command, _, message = example.removeprefix("$ ").partition("\n")
    assert warm(command, tmp_path) == (1, message)
