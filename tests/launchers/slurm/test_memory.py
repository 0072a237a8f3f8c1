"""Points that would not fit into memory are not launched on a Slurm cluster either."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))
import wide

pytestmark = pytest.mark.slow


def test_points_that_would_not_fit_are_rejected(project) -> None:
    (project.path / "wide.py").write_text(Path(wide.__file__).read_text())
    driver = project.start(*wide.SWEEP, "launcher=slurm", "launcher.slots=2", "training.x=1")
    output, _ = driver.communicate()
    assert driver.returncode == 0, output
    wide.check(project.study("wide"), project.table("wide"))
