"""The config group ``best`` reads a run folder, which anybody may have written."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dlsweep.cli.best_group import BestGroup
from dlsweep.errors import ConfigError
from dlsweep.folders.rundir import RunDir


@pytest.mark.parametrize(
    "override",
    [
        "hydra.sweeper.storage=postgresql://far/away",
        "hydra.sweeper.sampler._target_=dlsweep.sweep.hub.sampler",
        "hydra/sweeper/sampler=hub",
        "++hydra.sweeper.warm_start=[elsewhere]",
    ],
)
def test_a_run_folder_says_nothing_about_the_sweep(
    make_run: Callable[..., RunDir], override: str
) -> None:
    run = make_run(overrides=["seed=3", override])
    with pytest.raises(ConfigError, match="has an override of Hydra's own node") as error:
        BestGroup("best", "best://").load_config(f"best/{run.path}.yaml")
    assert override in str(error.value)
