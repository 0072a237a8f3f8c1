"""Makes this folder's own modules importable, and starts a warm shell once a worker."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pages import Shell

sys.path.append(str(Path(__file__).parent))  # pages


@pytest.fixture(scope="session")
def warm() -> Iterator[Shell]:
    from pages import warm_shell

    with warm_shell() as shell:
        yield shell
