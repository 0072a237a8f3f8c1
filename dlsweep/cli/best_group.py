"""The config group ``best``: trains a trial of a study again, as in ``+best=outputs/mnist``.

An option is a folder: a study's, which means its best trial, or a run's. It composes from the
overrides of that run, so every key can still be overridden or swept. Nothing in the folder is
executed: its overrides are values, and what they name must be trusted; see
:mod:`dlsweep.security.trust`.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dlsweep.cli.search_path import conf_folders
from dlsweep.errors import ConfigError, StudyError
from dlsweep.folders.removal import again
from dlsweep.folders.rundir import RunDir
from dlsweep.folders.studydir import StudyDir
from dlsweep.security.trust import check_trusted
from dlsweep.sweep.compose import key_of

#: The name of the group, and the scheme of its search path.
GROUP = "best"
#: How often a trial may be one of a trial.
_DEEPEST = 10


def register() -> None:
    """Lets Hydra find the group."""
    Plugins.instance().register(BestGroup)
    Plugins.instance().register(BestSearchPath)


class BestSearchPath(SearchPathPlugin):
    """A Hydra plugin that searches the group ``best`` after all YAML."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Appends the group."""
        search_path.append(GROUP, f"{GROUP}://")


class BestGroup(ConfigSource):
    """A Hydra plugin that reads the config group ``best`` from folders of results."""

    @staticmethod
    def scheme() -> str:
        """Returns the scheme of its search path."""
        return GROUP

    def available(self) -> bool:
        """Whether there is such a group: always."""
        return True

    def is_group(self, config_path: str) -> bool:
        """Whether a path is the group."""
        return config_path.strip("/") == GROUP

    def is_config(self, config_path: str) -> bool:
        """Whether an option is a study folder or a run folder."""
        folder = _folder(config_path)
        return folder is not None and _is_result(folder)

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """Lists the studies in ``./outputs``, for completion and messages."""
        if not self.is_group(config_path) or results_filter is ObjectType.GROUP:
            return []
        return [str(one.parent) for one in sorted(Path("outputs").glob("*/study.json"))]

    def load_config(self, config_path: str) -> ConfigResult:
        """Composes the config of an option.

        Raises:
            StudyError: If the study has no completed trial, or a file is damaged.
            ConfigError: If an override cannot be given again, or is not trusted.
        """
        folder = _folder(config_path)
        assert folder
        run = _run(folder)
        try:
            config = OmegaConf.create(_composed(run))
        except OmegaConfBaseException as error:
            reason = str(error).partition("\n")[0]
            raise ConfigError(f"{run.path} has an override that is no config: {reason}") from None
        check_trusted(config, run.path, conf_folders())
        header: dict[str, str | None] = {"package": "_global_"}
        return ConfigResult(self.provider, f"{GROUP}://{folder}", config, header)


def _folder(config_path: str) -> Path | None:
    """Returns the folder of an option's path."""
    name = config_path.removesuffix(".yaml")
    if not name.startswith(f"{GROUP}/"):
        return None
    return Path(name.removeprefix(f"{GROUP}/")).expanduser()


def _is_result(folder: Path) -> bool:
    return StudyDir(folder).info_file.is_file() or RunDir(folder).info_file.is_file()


def _run(folder: Path) -> RunDir:
    study = StudyDir(folder)
    if not study.info_file.is_file():
        return RunDir(folder)
    number = study.best_number()
    if number is None:
        raise StudyError(
            f"{folder} has no best trial: none has completed, or its sweep is not over.\n"
            f"Give a trial instead, as  +best={folder}/trials/{study.name(0)}"
        )
    return study.trial(number)


def _composed(run: RunDir) -> dict[str, Any]:
    """Returns a config with a defaults list that gives a run's overrides again."""
    added: dict[str, Any] = {}
    chosen: dict[str, Any] = {}
    values = OmegaConf.create({})
    for override in _overrides(run):
        key, value = key_of(override), override.value()
        if not _is_group(override.key_or_group):
            OmegaConf.update(values, key, value, force_add=True)
        elif override.is_add() or override.is_force_add():
            added[f"/{key}"] = value
        else:
            chosen[f"override /{key}"] = value
    found = OmegaConf.to_container(values)
    assert isinstance(found, dict)
    return {
        "defaults": [
            *({key: value} for key, value in added.items()),
            "_self_",
            *({key: value} for key, value in chosen.items()),
        ],
        **{str(name): one for name, one in found.items()},
    }


def _overrides(run: RunDir, depth: int = 0) -> Iterator[Override]:
    """Yields a run's overrides; for one that was such a trial again, that trial's first."""
    for override in _parsed(run):
        if override.key_or_group != GROUP:
            yield override
        elif depth < _DEEPEST:
            yield from _overrides(_run(Path(str(override.value()))), depth + 1)
        else:
            raise StudyError(f"{run.path}: its trial is one of a trial, and so on without an end.")


def _parsed(run: RunDir) -> list[Override]:
    """Returns a run's overrides.

    Raises:
        ConfigError: If one has an error, concerns Hydra itself, or removes or sweeps something, as
            no config can.
    """
    given = again(run.info())
    try:
        overrides = OverridesParser.create().parse_overrides(given)
        odd = [one for one in overrides if one.is_delete() or one.is_sweep_override()]
    except HydraException as error:
        raise ConfigError(f"{run.info_file} has an override that cannot be read: {error}") from None
    if any(one.key_or_group.split("/")[0].split(".")[0] == "hydra" for one in overrides):
        raise ConfigError(
            f"{run.info_file} has an override of Hydra's own node: {', '.join(given)}.\n"
            "It is not used, because a run folder may come from anybody and that node names what "
            "a sweep runs."
        )
    if odd:
        raise ConfigError(
            f"{run.path}: Received the override {odd[0].input_line!r}, which a config cannot "
            f"contain.\nType them again instead:  {shlex.join(given)}"
        )
    return overrides


def _is_group(key: str) -> bool:
    """Whether a key is a group of the trusted YAML folders."""
    return any((folder / key).is_dir() for folder in conf_folders())
