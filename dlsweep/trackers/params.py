"""A run's parameters for trackers: flat names and plain values."""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from operator import getitem
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dlsweep.folders.rundir import RunDir

Path = tuple[Any, ...]


def params_of(run: RunDir) -> dict[str, Any]:
    """Returns every leaf of a run's config by its dotted name, and the swept parameters.

    Interpolations are resolved, except ``${oc.env:…}``, which may be a secret: no tracker gets a
    password given as ``${oc.env:TOKEN}``. Those that only the user's own program can resolve stay
    text, too.
    """
    written = run.config()
    leaves = dict(_leaves(written))
    if any(_is_open(leaf) for leaf in leaves.values()):
        config = OmegaConf.create(_without_secrets(written))
        leaves = {path: _resolve(config, path, leaf) for path, leaf in leaves.items()}
    named = {".".join(str(key) for key in path): leaf for path, leaf in leaves.items()}
    return {**named, **run.info().params}


def _leaves(node: dict[Any, Any], above: Path = ()) -> Iterator[tuple[Path, Any]]:
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _leaves(value, (*above, key))
        else:
            yield (*above, key), value


def _is_open(leaf: Any) -> bool:
    return "${" in str(leaf)


def _resolve(config: DictConfig, path: Path, leaf: Any) -> Any:
    if not _is_open(leaf):
        return leaf
    try:
        value = reduce(getitem, path, config)
        return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
    except OmegaConfBaseException:
        return leaf


def _without_secrets(node: Any) -> Any:
    """Escapes ``${oc.env:…}``, so that keys that refer to it get the text as well."""
    if isinstance(node, dict):
        return {key: _without_secrets(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_without_secrets(value) for value in node]
    return node.replace("${oc.env:", r"\${oc.env:") if isinstance(node, str) else node
