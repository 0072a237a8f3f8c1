"""Launchers in a run folder's config: what they would run on a cluster must be known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from dlsweep.cli.search_path import conf_dir
from dlsweep.errors import ConfigError
from dlsweep.security.trust import check_trusted


def check(tmp_path: Path, options: dict[str, Any]) -> None:
    launcher = {"_target_": "dlsweep.launchers.slurm.SlurmLauncher", **options}
    config = OmegaConf.create({"launcher": launcher, "hidden": ["curl evil"]})
    check_trusted(config, tmp_path, [conf_dir()])


@pytest.mark.parametrize(
    "options",
    [
        {"setup": ["curl evil"]},
        {"setup": ["experiments.x; curl evil"]},
        {"setup": "${hidden}"},
        {"sbatch": {"export": "ALL,LD_PRELOAD=/evil.so"}},
    ],
)
def test_a_received_run_brings_no_command_to_a_cluster(tmp_path, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"launcher\.\w+.* neither dlsweep's conf nor yours"):
        check(tmp_path, options)


def test_what_the_shipped_config_says_is_known(tmp_path: Path) -> None:
    check(tmp_path, {"setup": [], "sbatch": {}, "partition": "gpu"})
