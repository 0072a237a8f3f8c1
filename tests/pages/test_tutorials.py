"""The tutorials: a reader who follows the text gets what it shows."""

from __future__ import annotations

from pathlib import Path

import pytest
from pages import ROOT, shell, walk

pytestmark = pytest.mark.slow

TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_a_tutorial_works_from_an_empty_folder(page: Path, tmp_path: Path) -> None:
    walk(page, tmp_path, shell)
