"""Composes trials' configs, with a cache per choice of config groups.

Composing takes tens of milliseconds, and only another group choice needs it. Value overrides are
applied to a copy of the cached config by Hydra's own private code, so the result is the same; the
tests compare both. Without that code, every trial would compose anew.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator, Sequence
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict, read_write


class Composer:
    """Composes configs from override strings, for one app and its fixed overrides.

    Args:
        loader: Hydra's config loader of the app.
        master: The sweep's own config, with the node ``hydra``.
        fixed: Overrides that every trial has.
    """

    def __init__(self, loader: ConfigLoader, master: DictConfig, fixed: Sequence[str]) -> None:
        assert isinstance(loader, ConfigLoaderImpl)
        self._loader = loader
        self._master = master
        self.fixed = tuple(fixed)
        self._parser = OverridesParser.create(config_loader=loader)
        self._bases: dict[tuple[str, ...], DictConfig] = {}

    def parse(self, overrides: Sequence[str]) -> list[Override]:
        """Parses override strings with Hydra's parser."""
        return self._parser.parse_overrides(list(overrides))

    def has_choice(self, group: str) -> bool:
        """Whether the defaults choose an option of a group; a mandatory group has none."""
        return self._master.hydra.runtime.choices.get(group) not in (None, "???")

    @functools.cache  # noqa: B019 - one composer lives as long as its process
    def is_group(self, key: str) -> bool:
        """Whether a key is a config group."""
        return bool(self._loader.repository.group_exists(key.partition("@")[0]))

    def config(self, overrides: Sequence[str]) -> DictConfig:
        """Composes the config of a run, without the node ``hydra``; interpolations stay unresolved.

        Args:
            overrides: The run's own overrides; group choices first.

        Raises:
            hydra.errors.ConfigCompositionException: If Hydra cannot compose them.
        """
        parsed = self.parse(overrides)
        groups = [o for o in parsed if self.is_group(o.key_or_group)]
        values = [o for o in parsed if not self.is_group(o.key_or_group)]
        config = copy.deepcopy(self._base(tuple(o.input_line or "" for o in groups)))
        ConfigLoaderImpl._apply_overrides_to_config(values, config)
        return config

    def has_key(self, choices: Sequence[str], key: str) -> bool:
        """Whether the config composed with these group choices has the key."""
        return _has(self._base(tuple(choices)), key)

    def keys(self, choices: Sequence[str]) -> list[str]:
        """Returns every dotted key of that config."""
        return [key for key, _ in leaves(self._base(tuple(choices)))]

    def _base(self, choices: tuple[str, ...]) -> DictConfig:
        if choices not in self._bases:
            base = self._loader.load_sweep_config(self._master, [*self.fixed, *choices])
            with read_write(base), open_dict(base):
                base.pop("hydra")  # three quarters of all keys, and not part of a run's config
            self._bases[choices] = base
        return self._bases[choices]


def key_of(override: Override) -> str:
    """Returns the key that an override sets; of a group, with its package: ``db@source``."""
    package = f"@{override.package}" if override.package else ""
    return f"{override.key_or_group}{package}"


def leaves(config: DictConfig) -> Iterator[tuple[str, Any]]:
    """Yields every key of a config with its plain unresolved value, nested keys joined by dots."""
    yield from _leaves(OmegaConf.to_container(config), "")


def _leaves(node: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        for name, child in node.items():
            yield f"{prefix}{name}", child
            yield from _leaves(child, f"{prefix}{name}.")


def _has(config: DictConfig, key: str) -> bool:
    parent, _, leaf = key.rpartition(".")
    node = OmegaConf.select(config, parent) if parent else config
    if OmegaConf.is_list(node):
        return leaf.isdigit() and int(leaf) < len(node)
    return isinstance(node, DictConfig) and leaf in set(node.keys())
