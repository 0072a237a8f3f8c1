from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from dlsweep.folders.rundir import Record, RunDir
from dlsweep.run.run import Run


@pytest.fixture
def rich_run(make_run: Callable[..., RunDir]) -> tuple[RunDir, list[Record]]:
    """A run that has logged one of each kind, and its records."""
    folder = make_run()
    with Run.open(folder.path) as run:
        run.log_image("val/examples", np.zeros((4, 6, 3), np.uint8), step=1)
        run.log_histogram("weights", [0.0, 1.0, 1.0, 3.0], step=1)
        run.log_text("sample", "once upon", step=1)
        run.log_table("wrong", ["id", "label"], [[3, "a|b"], [4, None]], step=1)
        run.log({"val/loss": 0.5}, step=2)
    return folder, [record for record, _ in folder.records()]
