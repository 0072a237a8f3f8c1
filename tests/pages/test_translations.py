"""The Spanish pages have the English ones' code, which is run there."""

from __future__ import annotations

from pathlib import Path

import pytest
from pages import ROOT, blocks

DOCS = ROOT / "docs"
SPANISH = sorted((DOCS / "es").rglob("*.md"))


def test_the_course_is_there_in_spanish() -> None:
    translated = {page.relative_to(DOCS / "es") for page in SPANISH}
    course = {page.relative_to(DOCS) for page in (DOCS / "course").glob("*.md")}
    assert translated == course | {Path("tutorials/first-sweep.md")}


@pytest.mark.parametrize("page", SPANISH, ids=lambda page: page.stem)
def test_the_code_of_a_translation_is_that_of_the_page(page: Path) -> None:
    assert blocks(page) == blocks(DOCS / page.relative_to(DOCS / "es"))
