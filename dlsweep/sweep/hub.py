"""Loads samplers and pruners of OptunaHub: ``hydra/sweeper/sampler=hub``.

A package of OptunaHub is code that anybody may have published. So it is only run at a commit that
the user names, or from a local copy. Only a command or trusted YAML can name it, no run folder can.
"""

from __future__ import annotations

import re
import sys
from types import ModuleType
from typing import Any

from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler

from dlsweep.errors import ConfigError, MissingExtraError, did_you_mean

#: The target of the config ``hydra/sweeper/sampler=hub``.
SAMPLER = "dlsweep.sweep.hub.sampler"
_COMMIT = re.compile(r"[0-9a-f]{40}")


def sampler(seed: int | None = None, **options: Any) -> BaseSampler:
    """Builds a sampler of OptunaHub.

    Args:
        seed: Its seed; None for a sampler without one.
        **options: ``package``, such as ``samplers/auto_sampler``; ``ref``, the commit of the
            registry, or ``registry_root``, the folder of a local copy; ``name`` of the class, if
            the package has several; all others are arguments of the class.

    Raises:
        MissingExtraError: If optunahub, or a package that the sampler imports, is not installed.
        ConfigError: If neither a commit nor a local copy is given, or it cannot be loaded.
    """
    if seed is not None:
        options["seed"] = seed
    found: BaseSampler = _build("sampler", BaseSampler, **options)
    return found


def pruner(**options: Any) -> BasePruner:
    """Builds a pruner of OptunaHub; see :func:`sampler`."""
    found: BasePruner = _build("pruner", BasePruner, **options)
    return found


def _build(
    role: str,
    base: type,
    package: str | None = None,
    ref: str | None = None,
    registry_root: str | None = None,
    name: str | None = None,
    **arguments: Any,
) -> Any:
    key = f"hydra.sweeper.{role}"
    if not re.fullmatch(rf"{role}s/\w+", str(package)):
        raise ConfigError(
            f"{key}.package: Received {package!r}. Expected a package of OptunaHub, such as "
            f"{role}s/<name>; https://hub.optuna.org lists them."
        )
    if (ref is None) == (registry_root is None):
        raise ConfigError(
            f"{key}: Received {'no ref and no' if ref is None else 'ref and'} registry_root. "
            f"{package} is code that is downloaded and run, so it must be one that you know.\n"
            f"Type either  {key}.ref=<40 hex digits>  the commit of optunahub-registry to run,\n"
            f"or  {key}.registry_root=<folder>  the folder `package` of a local copy."
        )
    if ref is not None and not _COMMIT.fullmatch(str(ref)):
        raise ConfigError(
            f"{key}.ref: Received {ref!r}. Expected the 40 hex digits of a commit: what a branch "
            "or a tag names can change, and it is run."
        )
    module = _load(key, str(package), ref, registry_root)
    found = {
        label: one
        for label in getattr(module, "__all__", vars(module))
        if isinstance(one := getattr(module, label, None), type)
        and issubclass(one, base)
        and one.__module__.startswith(module.__name__)
    }
    if name is None and len(found) == 1:
        return next(iter(found.values()))(**arguments)
    if name not in found:
        hint = did_you_mean(str(name), found)
        raise ConfigError(
            f"{key}.name: Received {name!r}. Expected a {role} of {package}: "
            f"{', '.join(sorted(found)) or 'it has none'}.{hint}"
        )
    return found[name](**arguments)


def _load(key: str, package: str, ref: str | None, registry_root: str | None) -> ModuleType:
    try:
        import optunahub
    except ModuleNotFoundError:
        raise MissingExtraError("optunahub", key) from None
    for name in [*sys.modules]:  # modules of another commit that this process has loaded
        if name.startswith(f"optunahub_registry.package.{package.replace('/', '.')}."):
            del sys.modules[name]
    try:
        if registry_root is not None:
            module: ModuleType = optunahub.load_local_module(package, registry_root=registry_root)
        else:
            module = optunahub.load_module(package, ref=str(ref))
    except ModuleNotFoundError as error:
        raise MissingExtraError(str(error.name), package) from None
    except Exception as error:
        where = registry_root or f"OptunaHub's commit {ref}"
        raise ConfigError(f"{key}: {package} cannot be loaded from {where}: {error}") from error
    return module
