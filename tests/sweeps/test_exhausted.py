"""A space whose points are all tried ends a sweep for good."""

from __future__ import annotations

import pandas as pd
import pytest

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("sampler", ["grid", "brute_force"])
def test_an_exhausted_space_is_said_and_repeats_nothing(project, sampler: str) -> None:
    arguments = (
        "+experiment=quadratic",
        "training.steps=2",
        "tracking=[csv]",
        "training.x=1,2,3",
        f"hydra/sweeper/sampler={sampler}",
        "hydra.sweeper.n_trials=5",
        "-m",
    )
    for turn in range(2):
        output = project.run(*arguments)
        assert "The space is exhausted: all 3 points are tried." in output
        assert "missing" not in output
        assert ("started" in output) == (turn == 0)
        table: pd.DataFrame = project.table("quadratic")
        assert sorted(table["training.x"]) == [1, 2, 3]
        assert set(table["state"]) == {"completed"}
