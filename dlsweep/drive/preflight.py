"""Checks configs before anything starts, in the process where they would run.

The driver composes both ends of every range under every choice. A process of the launcher imports
the targets and compares each config with their signatures.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from dlsweep.drive.driver import Driver
from dlsweep.errors import ConfigError
from dlsweep.folders.rundir import RunDir, write_atomically

_CONFIGS = "configs.json"
_PROBLEMS = "problems.json"


def preflight(driver: Driver, configs: Sequence[DictConfig], folder: Path) -> None:
    """Checks configs in a process of the driver's launcher, unless the driver is stopped.

    Args:
        driver: The driver; its launcher has started.
        configs: Composed configs.
        folder: A folder for configs and problems; it is removed in the end.

    Raises:
        ConfigError: If there are problems; lists every distinct one.
    """
    desk = RunDir(folder)
    desk.log_file = Path("/dev/stderr")  # a download shows its progress
    plain = [OmegaConf.to_container(config) for config in configs]
    write_atomically(folder / _CONFIGS, json.dumps(plain))
    job = driver.launcher.submit(["-m", "dlsweep", "check"], desk)
    while job.poll() is None:
        driver.launcher.wait(1.0)
        if driver.stopping:
            job.kill()
    try:
        problems = json.loads((folder / _PROBLEMS).read_text())
    except FileNotFoundError:
        if driver.stopping:
            return
        raise ConfigError(
            f"The config check ended early, with exit code {job.poll()}; see above."
        ) from None
    finally:
        shutil.rmtree(folder)
    if problems:
        raise ConfigError("\n".join(problems))


def check(folder: Path) -> None:
    """Checks the configs in the folder and writes the problems to another file there."""
    from dlsweep.trial.signature import problems

    configs = json.loads((folder / _CONFIGS).read_text())
    found = [problem for config in configs for problem in problems(OmegaConf.create(config))]
    write_atomically(folder / _PROBLEMS, json.dumps(list(dict.fromkeys(found))))
