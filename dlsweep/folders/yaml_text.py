"""Reads and writes configs as YAML: the text that OmegaConf writes, ten times faster.

The only module that uses OmegaConf's private YAML classes. OmegaConf's public functions parse in
Python, which costs a trial tens of milliseconds; here libyaml does it. OmegaConf's loader defines
which plain words are numbers, its dumper which strings need quotes. Without the same rules, a
string such as ``1e3`` would come back as a number.
"""

from __future__ import annotations

from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf._utils import get_omega_conf_dumper

try:
    # OmegaConf 2.4
    from omegaconf._yaml import get_yaml_loader  # type: ignore[import-not-found,unused-ignore]
except ImportError:
    from omegaconf._utils import get_yaml_loader  # OmegaConf 2.3


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    yaml_implicit_resolvers = get_yaml_loader().yaml_implicit_resolvers


class _Dumper(getattr(yaml, "CDumper", yaml.Dumper)):  # type: ignore[misc]
    pass


_Dumper.add_representer(str, get_omega_conf_dumper().str_representer)


def parse_yaml(text: str) -> dict[str, Any]:
    """Parses a config's YAML text as OmegaConf does; interpolations stay strings.

    Raises:
        ValueError: If it is not a mapping in YAML, or has an alias: expanding aliases of aliases
            takes memory without limit, and no config that dlsweep writes has one.
    """
    try:
        if "*" in text and any(
            isinstance(one, yaml.AliasEvent) for one in yaml.parse(text, _Loader)
        ):
            raise ValueError("it has a YAML alias")
        parsed = yaml.load(text, _Loader) or {}  # noqa: S506 - a safe loader
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None
    if not isinstance(parsed, dict):
        raise ValueError("it is not a mapping")
    return parsed


def config_yaml(config: DictConfig) -> str:
    """Returns the same text as ``OmegaConf.to_yaml``."""
    plain = OmegaConf.to_container(config, enum_to_str=True)
    text: str = yaml.dump(
        plain, Dumper=_Dumper, default_flow_style=False, allow_unicode=True, sort_keys=False
    )
    return text
