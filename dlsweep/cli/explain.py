"""Turns Hydra's errors into clear ones: what was wrong, the nearest key, what to type."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException
from omegaconf.errors import ValidationError

from dlsweep.cli.best_group import GROUP
from dlsweep.cli.search_path import VERSION_BASE, conf_dir
from dlsweep.errors import did_you_mean
from dlsweep.sweep.compose import leaves


def explain(error: Exception, arguments: Sequence[str]) -> str:
    """Returns a message for an error of config composition.

    Args:
        error: The error of Hydra or OmegaConf.
        arguments: The command line; its other overrides tell which keys are valid.
    """
    chain = _chain(error)
    text = "\n".join(str(one) for one in chain)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _unknown_choice(error)
    if wrong := next((one for one in chain if isinstance(one, ValidationError)), None):
        return _wrong_type(wrong) or text
    found = re.search(r"Could not override '([^']+)'", text) or re.search(
        r"config group '([^']+)' does not exist|Could not find '([^']+)'", text
    )
    if found is None:
        return text
    key = next(group for group in found.groups() if group)
    valid = _valid_keys(arguments, key)
    if key in valid:
        return (
            f"{key}: Received a value with keys that the config does not have.\n"
            f"Add each one with a plus:  +{key}.<name>=<value>"
        )
    missing = f"The config has no key {key!r}.{did_you_mean(key, valid)}\n"
    tracker = re.match(r"tracking\.\w+\.", key)
    if tracker and not any(one.startswith(tracker[0]) for one in valid):
        name = tracker[0].split(".")[1]
        return f"{missing}Keys of {name} exist only if it is configured. Type  tracking=[{name}]"
    if key.startswith("hydra"):
        return f"{missing}See all of them with  --cfg hydra"
    return f"{missing}See all of them with  --cfg job ; add a new one with  +{key}=<value>"


def null_group(error: ValueError, arguments: Sequence[str], folders: Sequence[Path]) -> str:
    """Returns a message for a config group that is set to null, which Hydra cannot compose.

    Args:
        error: An error of composition.
        arguments: The command line.
        folders: The folders of YAML; they have a folder for each group.

    Returns:
        The message; empty if the error is another one.
    """
    if "Config group override must be a string" not in str(error):
        return ""
    for argument in arguments:
        key, _, value = argument.lstrip("+").partition("=")
        options = {file.stem for one in folders for file in one.glob(f"{key}/*.yaml")}
        if value == "null" and options:
            instead = f"{key}={'none' if 'none' in options else '<option>'}"
            return (
                f"{key}: Received null. A config group takes one of its options: "
                f"{', '.join(sorted(options))}.\nType  {instead}"
            )
    return "A config group is set to null. Expected one of its options, or  ~<group>  for none."


#: What OmegaConf says of a value that a key of a sweep cannot take, and what it can.
_TYPES = {"Integer": "a whole number", "Float": "a number", "bool": "true or false"}


def _wrong_type(error: ValidationError) -> str:
    said, key = str(error).partition("\n")[0], error.full_key
    if found := re.search(r"Value '(.*)' (?:of type .* converted to|is not a valid) (\w+)", said):
        return f"{key}: Received {found[1]!r}. Expected {_TYPES.get(found[2], found[2])}."
    if found := re.search(r"Cannot convert '.*' to string: '(.*)'", said):
        return f"{key}: Received {found[1]}. Expected a text."
    return ""


def _chain(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None:
        found.append(error)
        error = error.__cause__
    return found


def _unknown_choice(error: MissingConfigException) -> str:
    name = error.missing_cfg_file or ""
    group, _, choice = name.rpartition("/")
    if name.startswith(f"{GROUP}/"):  # its choices are folders
        group, _, choice = name.partition("/")
    options = list(error.options or [])
    hint = did_you_mean(choice, options)
    listed = f"\nThere are: {', '.join(options)}" if options else ""
    return f"The group {group!r} has no choice {choice!r}.{hint}{listed}"


def _valid_keys(arguments: Sequence[str], wrong: str) -> list[str]:
    """Returns the keys and groups of the config that the other overrides compose."""
    parser = OverridesParser.create()
    kept = []
    for argument in arguments:
        try:
            parsed = parser.parse_override(argument)
        except HydraException:
            continue  # a flag, or an error that Hydra explains
        if parsed.key_or_group != wrong and not parsed.is_sweep_override():
            kept.append(argument)
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), **VERSION_BASE):
        try:
            config = compose("config", kept, return_hydra_config=True)
        except HydraException:
            config = compose("config", return_hydra_config=True)
        groups = GlobalHydra.instance().config_loader().list_groups("")
    keys = [key for key, _ in leaves(config)]
    return [key for key in keys if wrong.startswith("hydra") or key[:5] != "hydra"] + groups
