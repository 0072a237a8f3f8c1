"""The page of all config keys: from ``conf/``, its comments, and the signatures of its targets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from reference import NOTE, ROOT, code, table
from reference.signatures import arguments, sentence, target

CONF = ROOT / "conf"
_INTRO = f"""{NOTE}

# Config keys

Every key of the shipped config, by group. Override any of them on the command line, as in
`training.epochs=3`, or in your own YAML; `--cfg job` prints what a command composes. Keys of
`hydra.sweeper` are on [a page of their own](sweep.md).

A type in YAML's words: `null` is nothing, `auto` and the like are words that you may write.
`???` as a default means that you must give a value; `${{…}}` is the value of another key.
"""
_EXPERIMENTS = """## Experiments

`+experiment=<name>` chooses what to train and what to search. Each is a file in
`conf/experiment/` that sets keys of this page, and its own.
"""


@dataclass(frozen=True)
class Key:
    """One key of a YAML file."""

    name: str
    default: str
    type: str
    meaning: str


@dataclass(frozen=True)
class Option:
    """One YAML file: an option of a group."""

    group: str
    name: str
    about: str
    targets: dict[str, str]  #: the dotted path that each node builds
    defaults: dict[str, str]
    keys: list[Key]


def page() -> str:
    """Returns the page."""
    options = [read(file) for file in sorted(CONF.rglob("*.yaml")) if "experiment" not in str(file)]
    root = next(one for one in options if not one.group)
    parts = [
        _INTRO,
        "## Groups\n\n" + _groups(options, root),
        "## Keys of no group\n\n" + _rows(root),
    ]
    for group in sorted({one.group for one in options} - {""}):
        parts.append(f"## `{group}`")
        parts += [_section(one) for one in options if one.group == group]
    return "\n\n".join([*parts, _EXPERIMENTS + "\n" + _experiments()]) + "\n"


def _groups(options: list[Option], root: Option) -> str:
    rows = []
    for group in sorted({one.group for one in options} - {""}):
        names = ", ".join(f"`{one.name}`" for one in options if one.group == group)
        defaults = {
            f"{one.group}/{key}": value for one in options for key, value in one.defaults.items()
        }
        rows.append(
            (f"`{group}`", names, code(defaults.get(group) or root.defaults.get(group, "")))
        )
    return table(("group", "options", "default"), rows)


def _section(option: Option) -> str:
    builds = sorted(set(option.targets.values()) - {"???"})
    parts = [f"### `{option.group}={option.name}`"]
    if option.about:
        parts.append(option.about)
    if builds:
        parts.append("Builds " + " and ".join(f"`{one}`" for one in builds) + ".")
    if option.keys:
        parts.append(_rows(option))
    return "\n\n".join(parts)


def _rows(option: Option) -> str:
    return table(
        ("key", "type", "default", "meaning"),
        [(f"`{key.name}`", key.type, code(key.default), key.meaning) for key in option.keys],
    )


def _experiments() -> str:
    files = sorted((CONF / "experiment").glob("*.yaml"))
    return table(
        ("experiment", "what it is"), [(f"`{one.stem}`", read(one).about) for one in files]
    )


def read(file: Path) -> Option:
    """Reads a YAML file with its comments."""
    lines = file.read_text().splitlines()
    group = file.parent.relative_to(CONF).as_posix().strip(".")
    package = re.search(r"^# @package (\S+)", file.read_text(), re.MULTILINE)
    prefix = {"_global_": ""}.get(package[1], package[1]) if package else group.replace("/", ".")
    header = [
        line[1:].strip() for line in _comment_above(lines, len(_head(lines))) if "@" not in line
    ]
    node = yaml.compose(file.read_text())
    option = Option(group, file.stem, sentence(" ".join(header)), {}, {}, [])
    if node is not None:
        assert isinstance(node, yaml.MappingNode)
        for key, value in _defaults(node):
            option.defaults[key] = value
        option.keys.extend(_keys(node, prefix, lines, option.targets))
    return option


def _head(lines: list[str]) -> list[str]:
    """Returns the comment lines that a file begins with."""
    count = next((n for n, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return lines[:count]


def _defaults(node: yaml.MappingNode) -> Iterator[tuple[str, str]]:
    for key, value in node.value:
        if key.value == "defaults":
            for entry in value.value:
                for name, choice in entry.value if isinstance(entry, yaml.MappingNode) else ():
                    if not name.value.startswith("override"):
                        yield name.value, _text(choice)


def _keys(
    node: yaml.MappingNode, prefix: str, lines: list[str], targets: dict[str, str]
) -> Iterator[Key]:
    values = {key.value: value for key, value in node.value}
    known = {}
    if "_target_" in values:
        targets[prefix] = target(values["_target_"].value)
        known = arguments(targets[prefix])
    for key, value in node.value:
        name = f"{prefix}.{key.value}" if prefix else key.value
        if key.value in ("defaults", "_partial_", "hydra") or (
            key.value == "_target_" and value.value != "???"
        ):
            continue
        if isinstance(value, yaml.MappingNode) and value.value:
            yield from _keys(value, name, lines, targets)
            continue
        argument = known.get(key.value)
        meaning = sentence(_comment(lines, key, value)) or (argument.meaning if argument else "")
        kind = argument.type if argument and argument.type else _kind(value)
        yield Key(name, _text(value), code(kind) if kind else "", meaning)


def _comment(lines: list[str], key: yaml.Node, value: yaml.Node) -> str:
    """Returns the comment on a key's line; without one, the comment lines above it."""
    is_block = value.end_mark.line > value.start_mark.line
    mark = key.end_mark if is_block else value.end_mark
    beside = re.match(r":?\s+#\s*(.*)", lines[mark.line][mark.column :])
    if beside:
        return beside[1]
    number = key.start_mark.line
    return (
        ""
        if number == len(_head(lines))
        else " ".join(line.strip()[1:].strip() for line in _comment_above(lines, number))
    )


def _comment_above(lines: list[str], number: int) -> list[str]:
    first = number
    while first and lines[first - 1].lstrip().startswith("#"):
        first -= 1
    return lines[first:number]


def _text(node: yaml.Node) -> str:
    """Returns a value as it is written, on one line."""
    if isinstance(node, yaml.ScalarNode):
        return node.value
    written = yaml.serialize(node, width=1000).strip()
    if node.flow_style or not node.value:
        return written.replace("\n", " ")
    return "[" + ", ".join(_text(one) for one in node.value) + "]"


def _kind(node: yaml.Node) -> str:
    """Returns the type of a value that no signature describes."""
    value = yaml.safe_load(yaml.serialize(node))
    if value is None or (isinstance(value, str) and ("${" in value or value == "???")):
        return ""
    return type(value).__name__
