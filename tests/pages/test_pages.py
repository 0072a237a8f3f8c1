"""The tutorials and the course: a reader who follows the text gets what it shows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pages import ROOT, Shell, shell, walk, warm_shell

pytestmark = pytest.mark.slow

DOCS = ROOT / "docs"
FIRST = DOCS / "tutorials" / "first-sweep.md"
PAGES = [*sorted((DOCS / "tutorials").glob("*.md")), *sorted((DOCS / "course").glob("*.md"))]


@pytest.fixture(scope="module")
def warm() -> Iterator[Shell]:
    with warm_shell() as one:
        yield one


def test_the_first_sweep_works_as_it_is_typed(tmp_path: Path) -> None:
    walk(FIRST, tmp_path, shell)


@pytest.mark.parametrize("page", [one for one in PAGES if one != FIRST], ids=lambda one: one.stem)
def test_a_page_works_from_an_empty_folder(page: Path, tmp_path: Path, warm: Shell) -> None:
    walk(page, tmp_path, warm)
