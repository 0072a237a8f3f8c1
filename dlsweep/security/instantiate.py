"""Calls Hydra's ``instantiate``; the only module that does.

A config is trusted here: it comes from the user's command line and YAML, or
:func:`dlsweep.security.trust.check_trusted` has checked it. Hydra 1.4 asks its caller to list the
targets that may run, and still refuses those that it never runs.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from hydra.utils import instantiate as _instantiate
from omegaconf import OmegaConf

_TAKES_WHITELIST = "_execution_whitelist_" in inspect.signature(_instantiate).parameters


def instantiate(node: Any, **options: Any) -> Any:
    """Builds what a config node's ``_target_`` names, and the nodes inside it.

    Args:
        node: The config node.
        options: As for ``hydra.utils.instantiate``, such as ``_convert_``.
    """
    if _TAKES_WHITELIST:
        plain = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
        options["_execution_whitelist_"] = sorted(set(_targets(plain)))
    return _instantiate(node, **options)


def _targets(node: Any) -> Iterator[str]:
    values = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    if isinstance(node, dict) and "_target_" in node:
        yield str(node["_target_"])
    for value in values:
        yield from _targets(value)
