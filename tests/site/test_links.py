"""Every link in a Markdown file of the repository leads to a file, and to a heading of it."""

from __future__ import annotations

import re
from pathlib import Path

import links
import pytest

ROOT = Path(__file__).parents[2]
FILES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("experiments/**/*.md")]


@pytest.fixture(scope="module")
def pages() -> dict[Path, links.Page]:
    return {file: links.of_markdown(file.read_text()) for file in FILES}


def test_every_link_leads_somewhere(pages: dict[Path, links.Page]) -> None:
    dead = {
        str(file): found for file, page in pages.items() if (found := links.dead(page, file, pages))
    }
    assert dead == {}


def test_a_dead_link_is_found(tmp_path: Path) -> None:
    file, other = tmp_path / "a.md", tmp_path / "b.md"
    for path in (file, other):
        path.touch()
    page = links.of_markdown(
        "# One\n[1](#one) [2](#two) [3](b.md#x) [4](c.md) ![5](d.png) [6](b.md)"
    )
    pages = {file: page, other: links.of_markdown("# Y")}
    assert links.dead(page, file, pages) == ["#two", "b.md#x", "c.md", "d.png"]


def test_every_file_that_a_page_names_exists() -> None:
    """A page may also name a file that its reader writes, or an example in capitals."""
    missing = {}
    for file in FILES:
        text = file.read_text()
        named = set(re.findall(r"`((?:conf|dlsweep|docs|experiments|tests)/[\w./-]+)`", text))
        own = set(re.findall(r'title="(.+?)"', text))
        found = {name for name in named - own if not (ROOT / name).exists()}
        if found := {name for name in found if not Path(name).stem.isupper()}:
            missing[str(file)] = found
    assert missing == {}
