"""The page of the keys of ``hydra.sweeper``, its samplers, pruners and failure policies."""

from __future__ import annotations

import re
from typing import Any

import griffe
from hydra.core.config_store import ConfigStore
from hydra_plugins import dlsweep_sweeper

from reference import NOTE, ROOT, code, table
from reference.signatures import arguments, package, readable, sentence

_PLUGIN = ROOT / "dlsweep" / "_plugins" / "hydra_plugins" / "dlsweep_sweeper" / "__init__.py"
_REFUSED = ("search_space", "custom_search_space", "optuna_config")
_INTRO = f"""{NOTE}

# Keys of a sweep

Keys of `hydra.sweeper`: type `hydra.sweeper.n_trials=50`, or write them in YAML under `hydra:
sweeper:`. `--cfg hydra -p hydra.sweeper` prints what a command has. [Search
spaces](../howto/spaces.md) has the grammar of `params`.
"""
_SAMPLERS = """## Samplers

`hydra/sweeper/sampler=<name>` chooses one; `hydra.sweeper.sampler.<key>=<value>` sets a key of
it, and `+hydra.sweeper.sampler.<key>` any other argument of the class. `seed` is
`hydra.sweeper.seed` where it is null."""
_PRUNERS = """## Pruners

`hydra/sweeper/pruner=<name>` chooses one. `max_resource: auto` is `training.epochs` for
dlsweep's own pruners."""
_FAILURES = """## Failures

What happens to a trial that ends in one of these ways: [Failures](../howto/failures.md) explains
them. `hydra.sweeper.failures.crashed.retries=2` sets another policy."""


def page() -> str:
    """Returns the page."""
    policies = dlsweep_sweeper._failures()
    meaning = _policy_meaning()
    rows = [
        (f"`{status}`", *(code(_yaml(policy[key])) for key in meaning))
        for status, policy in policies.items()
    ]
    parts = [
        _INTRO,
        _keys(),
        _SAMPLERS,
        _classes("sampler"),
        _PRUNERS,
        _classes("pruner"),
        _own_pruner(),
        _FAILURES,
        table(("status", *(f"`{key}`" for key in meaning)), rows),
        table(("key", "meaning"), [(f"`{key}`", text) for key, text in meaning.items()]),
    ]
    return "\n\n".join(parts) + "\n"


def _keys() -> str:
    comments = dict(re.findall(r"^    (\w+): .*?  # (.*)$", _PLUGIN.read_text(), re.MULTILINE))
    rows = []
    for name, one in _fields().items():
        if name.startswith("_") or name in ("defaults", *_REFUSED):
            continue
        default = {"sampler": "tpe", "pruner": "none", "failures": "see below"}.get(name)
        value = default or _yaml(getattr(dlsweep_sweeper.DlsweepSweeperConf(), name))
        kind = re.sub(r"\[[^]]*\bAny\]|^Any$", "", readable(one))
        meaning = sentence(comments.get(name, ""))
        rows.append((f"`{name}`", code(kind) if kind else "", code(value), meaning))
    return table(("key", "type", "default", "meaning"), rows)


def _fields() -> dict[str, Any]:
    module = griffe.visit("dlsweep_sweeper", _PLUGIN, _PLUGIN.read_text())
    members = module["DlsweepSweeperConf"].members.values()
    return {one.name: one.annotation for one in members if one.is_attribute}


def _classes(kind: str) -> str:
    rows = []
    for file, stored in ConfigStore.instance().repo["hydra"]["sweeper"][kind].items():
        node = {name: value for name, value in stored.node.items() if name != "_target_"}
        options = ", ".join(code(f"{name}={_yaml(value)}") for name, value in node.items())
        target = stored.node.get("_target_")
        if stored.provider == "dlsweep":
            shown = code(target) if target else "nothing is pruned"
            rows.append((f"`{file.removesuffix('.yaml')}`", shown, options))
    return table(("name", "class", "keys"), rows)


def _own_pruner() -> str:
    known = arguments("dlsweep.sweep.rungs.PromotePruner")
    rows = [(f"`{name}`", one.meaning) for name, one in known.items() if name != "maximize"]
    return "Keys of `promote` and `pasha`:\n\n" + table(("key", "meaning"), rows)


def _policy_meaning() -> dict[str, str]:
    docstring = package()["sweep.failures.Policy"].docstring
    assert docstring is not None
    (attributes,) = (s for s in docstring.parse("google") if s.kind.value == "attributes")
    return {one.name: sentence(one.description) for one in attributes.value}


def _yaml(value: Any) -> str:
    words = {None: "null", True: "true", False: "false"}
    return words[value] if value is None or isinstance(value, bool) else str(value)
