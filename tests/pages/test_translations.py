"""The Spanish pages have the English ones' code, which is run there; links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pages import ROOT, blocks

DOCS = ROOT / "docs"
SPANISH = sorted((DOCS / "es").rglob("*.md"))
PAGES = [*(DOCS / "tutorials").glob("*.md"), *(DOCS / "course").glob("*.md"), *SPANISH]


def test_the_course_is_there_in_spanish() -> None:
    translated = {page.relative_to(DOCS / "es") for page in SPANISH}
    course = {page.relative_to(DOCS) for page in (DOCS / "course").glob("*.md")}
    assert translated == course | {Path("tutorials/first-sweep.md")}


@pytest.mark.parametrize("page", SPANISH, ids=lambda page: page.stem)
def test_the_code_of_a_translation_is_that_of_the_page(page: Path) -> None:
    assert blocks(page) == blocks(DOCS / page.relative_to(DOCS / "es"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_a_link_leads_to_a_file(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#h][^)#]*)", page.read_text()):
        assert (page.parent / link).exists(), link
