"""Checks configs before anything starts, in the process where they would run.

The driver composes both ends of every range under every choice. A process of the launcher imports
the targets and compares each config with their signatures.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from dlsweep.drive.driver import Driver
from dlsweep.errors import ConfigError
from dlsweep.folders.rundir import RunDir, write_atomically

_CONFIGS = "configs.json"
_PROBLEMS = "problems.json"
_VARIANTS = "variants.json"
_CHANGES = "changes.json"

#: For a swept key, configs that differ in it alone; there may be several such lists.
Variants = Mapping[str, Sequence[Sequence[DictConfig]]]


def preflight(
    driver: Driver, configs: Sequence[DictConfig], folder: Path, variants: Variants | None = None
) -> dict[str, str]:
    """Checks configs in a process of the driver's launcher, unless the driver is stopped.

    Args:
        driver: The driver; its launcher has started.
        configs: Composed configs.
        folder: A folder for configs and problems; it is removed in the end.
        variants: Configs whose models are compared.

    Returns:
        For each key of the variants that changes the shapes of a model's weights, how.

    Raises:
        ConfigError: If there are problems; lists every distinct one.
    """
    desk = RunDir(folder)
    desk.log_file = Path("/dev/stderr")  # a download shows its progress
    write_atomically(folder / _CONFIGS, json.dumps(_plain(configs)))
    lists = {key: [_plain(one) for one in some] for key, some in (variants or {}).items()}
    write_atomically(folder / _VARIANTS, json.dumps(lists))
    job = driver.launcher.submit(["-m", "dlsweep", "check"], desk)
    while job.poll() is None:
        driver.launcher.wait(1.0)
        if driver.stopping:
            job.kill()
    try:
        problems = json.loads((folder / _PROBLEMS).read_text())
        changes: dict[str, str] = json.loads((folder / _CHANGES).read_text())
    except FileNotFoundError:
        if driver.stopping:
            return {}
        raise ConfigError(
            f"The config check ended early, with exit code {job.poll()}; see above."
        ) from None
    finally:
        shutil.rmtree(folder)
    if problems:
        raise ConfigError("\n".join(problems))
    return changes


def _plain(configs: Sequence[DictConfig]) -> list[Any]:
    return [OmegaConf.to_container(config) for config in configs]


def check(folder: Path) -> None:
    """Checks the configs in the folder and writes what it finds to other files there."""
    from dlsweep.trial.signature import problems
    from dlsweep.trial.weights import change_of_weights

    configs = json.loads((folder / _CONFIGS).read_text())
    found = [problem for config in configs for problem in problems(OmegaConf.create(config))]
    variants = json.loads((folder / _VARIANTS).read_text()) if not found else {}
    changes = {}
    for key, lists in variants.items():
        said = (change_of_weights([OmegaConf.create(one) for one in some]) for some in lists)
        if change := next(filter(None, said), ""):
            changes[key] = change
    write_atomically(folder / _CHANGES, json.dumps(changes))
    write_atomically(folder / _PROBLEMS, json.dumps(list(dict.fromkeys(found))))
