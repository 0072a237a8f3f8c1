"""Checks the config of a run folder before anything in it is imported or called.

Such a config is data and may come from anybody, but Hydra calls whatever a ``_target_`` names.
Allowed are names in the shipped or the user's own YAML, modules of the project in the current
folder, and classes of a framework.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from dlsweep.errors import ConfigError

#: Classes of the frameworks that only compute.
_CLASSES = re.compile(
    r"(torch\.(nn|optim|optim\.lr_scheduler)|keras\.(layers|optimizers|losses|metrics))\.[A-Z]\w*"
)
#: A reference to a key, and the interpolations whose value has the same type in any environment.
_REFERENCE = re.compile(r"\$\{([\w./-]+)\}")
_WITHOUT_FIXED = re.compile(r"\$\{(\.*[\w./-]+|oc\.env:\w+(,[^${}]*)?)\}")
#: The longest chain of references that is followed.
_MOST_REFERENCES = 10


def check_trusted(config: DictConfig, folder: Path, conf: Sequence[Path]) -> None:
    """Checks that a run folder's config calls, imports and sets only what is trusted.

    The check itself imports nothing.

    Args:
        config: The run folder's config.
        folder: The run folder.
        conf: The trusted YAML folders.

    Raises:
        ConfigError: If the config is not trusted; the message has the key.
    """
    known = set(_known(conf))
    raw = OmegaConf.to_container(config)
    for key, text in _texts(raw):
        if text not in known and "${" in _WITHOUT_FIXED.sub("", text):
            raise ConfigError(
                f"{key}: Received {text!r} from {folder / '.hydra' / 'config.yaml'}, whose value "
                "may differ where the run trains.\nExpected a plain value, ${some.key} or "
                "${oc.env:NAME}. If it is yours, name it in a YAML file under ./conf."
            )
    literal = ((key, _literal(config, name)) for key, name in _names(raw))
    for key, name in [*literal, *_names(OmegaConf.to_container(config, resolve=True))]:
        if not (name in known or _CLASSES.fullmatch(name) or _is_of_project(name)):
            raise ConfigError(
                f"{key}: Received {name!r} from {folder / '.hydra' / 'config.yaml'}, which neither "
                "dlsweep's conf nor yours names.\nIt is not run, because a run folder may come "
                "from anybody. If it is yours, name it in a YAML file under ./conf,\n"
                "or go there where its module lies and try again."
            )


def _texts(node: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yields every string value in a config with its dotted key."""
    if isinstance(node, dict):
        for name, value in node.items():
            yield from _texts(value, f"{key}.{name}".lstrip("."))
    elif isinstance(node, list):
        for position, value in enumerate(node):
            yield from _texts(value, f"{key}.{position}")
    elif isinstance(node, str):
        yield key, node


def _literal(config: DictConfig, name: str) -> str:
    """Replaces ``${some.key}`` by the string at that key. Other interpolations stay.

    A name that still contains ``${`` is not trusted, so the caller refuses it.
    """
    for _ in range(_MOST_REFERENCES):
        filled = _REFERENCE.sub(lambda found: str(_raw(config, found[1])), name)
        if filled == name:
            break
        name = filled
    return name


def _raw(config: DictConfig, key: str) -> Any:
    """Returns the unresolved value of a dotted key; None behind an interpolation."""
    node: Any = OmegaConf.to_container(config)
    for part in key.split("."):
        node = node.get(part) if isinstance(node, dict) else None
    return node


def _names(node: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yields everything in a config that is called, imported or set in the environment."""
    if isinstance(node, dict):
        for name, value in node.items():
            path = f"{key}.{name}".lstrip(".")
            if name == "_target_" or (path == "framework.setup" and value is not None):
                yield path, str(value)
            elif isinstance(value, str) and "${" in value:
                continue  # a reference to a node, which is checked at its own place
            elif name == "preload":
                yield from ((path, str(module)) for module in value)
            elif path == "launcher.setup":  # commands of a shell
                yield from ((path, str(command)) for command in value or ())
            elif path == "launcher.sbatch":
                yield from ((f"{path}.{option}", str(text)) for option, text in value.items())
            elif name == "env":
                yield from ((path, str(variable)) for variable in value)
            yield from _names(value, path)
    elif isinstance(node, list):
        for position, value in enumerate(node):
            yield from _names(value, f"{key}.{position}")


def _known(conf: Sequence[Path]) -> Iterator[str]:
    """Yields the keys and strings of all YAML in these folders, frameworks filled in."""
    texts = [text for one in conf for file in one.rglob("*.yaml") for text in _strings(_read(file))]
    yield from texts
    frameworks = [_read(file) for one in conf for file in one.glob("framework/*.yaml")]
    for framework in frameworks:
        for name, value in framework.get(
            "framework", framework
        ).items():  # with or without its package
            yield from (text.replace(f"${{framework.{name}}}", str(value)) for text in texts)


def _read(file: Path) -> dict[str, Any]:
    plain = OmegaConf.to_container(OmegaConf.load(file))
    return {str(name): value for name, value in plain.items()} if isinstance(plain, dict) else {}


def _strings(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for name, value in node.items():
            yield str(name)
            yield from _strings(value)
    elif isinstance(node, list):
        for value in node:
            yield from _strings(value)
    elif isinstance(node, str):
        yield node


def _is_of_project(name: str) -> bool:
    """Whether a dotted name is a module of the project in the current folder."""
    top = name.partition(".")[0]
    is_here = Path(f"{top}.py").is_file() or any(Path(top).glob("*.py"))
    is_module = all(part.isidentifier() for part in name.split("."))
    return is_module and is_here and not comes_with_a_run(name)


def comes_with_a_run(name: str) -> bool:
    """Whether Python would import a dotted name from a run folder or a study folder."""
    path = Path(name.replace(".", "/"))
    top = path.parts[0] if path.parts else ""
    is_here = Path(f"{top}.py").exists() or Path(top).is_dir()
    return is_here and any(_is_run_or_study(folder) for folder in (path, *path.parents))


def _is_run_or_study(folder: Path) -> bool:
    """Whether a folder is a run folder or a study folder, and so not a project."""
    return any((folder / name).exists() for name in ("study.json", "run.json", "runs", "trials"))
