"""The tutorials and the course: a reader who follows the text gets what it shows."""

from __future__ import annotations

from pathlib import Path

import pytest
from pages import ROOT, Shell, walk

pytestmark = pytest.mark.slow

PAGES = [
    one for part in ("tutorials", "course") for one in sorted((ROOT / "docs" / part).glob("*"))
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_works_from_an_empty_folder(page: Path, tmp_path: Path, warm: Shell) -> None:
    walk(page, tmp_path, warm)
