"""``python -m dlsweep --version``."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import dlsweep


def test_the_version_is_dlsweeps_own(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dlsweep", "--version"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == f"dlsweep {dlsweep.__version__}\n"
    assert dlsweep.__version__ == version("dlsweep")
