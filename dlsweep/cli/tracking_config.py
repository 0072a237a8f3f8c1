"""Composes the options of trackers that are added to existing runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from dlsweep.cli.explain import explain
from dlsweep.cli.search_path import VERSION_BASE, UserConf, conf_dir
from dlsweep.drive.driver import recorded_tracking
from dlsweep.errors import ConfigError
from dlsweep.trackers import mirror


def parse_trackers(folder: Path, words: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """Parses the trackers and overrides after ``sync`` and ``verify``.

    Args:
        folder: The study folder or the run folder.
        words: Names of trackers, and overrides such as ``tracking.wandb.project=mine``.

    Returns:
        The names, and the options of trackers that are new or overridden.

    Raises:
        ConfigError: If there is no such tracker or no such option.
    """
    overrides = [word for word in words if "=" in word]
    overridden = {word.removeprefix("tracking.").partition(".")[0] for word in overrides}
    names = [word for word in words if "=" not in word] or sorted(overridden)
    new = {*names, *overridden} - (mirror.trackers_of(folder) - overridden)
    return names, _composed(folder.absolute(), new, overrides) if new else {}


def _composed(folder: Path, names: Iterable[str], overrides: Sequence[str]) -> dict[str, Any]:
    outputs = f"outputs='{_study_folder(folder).parent}'"
    asked = [f"tracking=[{','.join(sorted(names))}]", outputs]
    Plugins.instance().register(UserConf)
    try:
        with initialize_config_dir(str(conf_dir()), **VERSION_BASE):
            # The folder's ./conf may have a root config of its own, that of a user's Hydra app.
            added = [f"+{one}" for one in asked]
            return recorded_tracking(compose(None, [*added, *overrides]).tracking)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(explain(error, [*asked, *overrides])) from None


def _study_folder(folder: Path) -> Path:
    """Returns the study folder of a run folder, or the folder itself."""
    return folder.parent.parent if (folder / "run.json").exists() else folder
