"""Keeps secrets out of what is written: configs name them, records and logs never hold them.

A secret belongs into the environment, and ``${oc.env:NAME}`` into the config: the reference is
recorded, and only the process that needs the value resolves it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from omegaconf import DictConfig, OmegaConf

from dlsweep.errors import ConfigError

#: The end of a key, or of a variable's name, that holds a secret.
_NAME = re.compile(
    r"(?<![a-z])(pass(word|wd|phrase)?|secret|token|credentials?|(api|access|private|secret)[_-]?key)$",
    re.I,
)
#: A token is also a word of a language: only what looks drawn by chance is a secret.
_TOKEN = re.compile(r"(?=.*\d)[\w./+=:-]{16,}")
_URL = re.compile(r"(://[^/\s:@]*:)([^/\s@$]+)(@)")
_REFERENCE = re.compile(r"\$\{oc\.env:\s*([A-Za-z_]\w*)")
#: Shorter values stand in any text by chance.
_SHORTEST = 8
_HIDDEN = "***"


def check(config: DictConfig, overrides: Iterable[str] = ()) -> None:
    """Sees that a config holds no secret in clear.

    Args:
        config: Composed, unresolved.
        overrides: What is not in it yet, such as the space of a sweep.

    Raises:
        ConfigError: If one stands there; names the key, not the value.
    """
    plain = OmegaConf.to_container(config, resolve=False, throw_on_missing=False)
    texts = [(key, text) for key, text in _texts(plain)]
    texts += [(key.lstrip("+~"), text) for key, _, text in (o.partition("=") for o in overrides)]
    for key, text in texts:
        if _holds_secret(key, text):
            name = re.sub(r"\W", "_", re.split(r"[./]", key)[-1]).upper()
            raise ConfigError(
                f"{key} holds a secret in clear, which would stand in every record of the run.\n"
                "Keep it in the environment, and name it in the config:\n"
                f"  export {name}=…\n  '{key}=${{oc.env:{name}}}'"
            )


def scrub(text: str, config: str = "") -> str:
    """A text without secrets: those of the environment, and passwords in addresses.

    Args:
        text: Such as a log's line or the message of an error.
        config: A config as it is written; the variables that it refers to are secrets, too.
    """
    for value in _values(config):
        text = text.replace(value, _HIDDEN)
    return _URL.sub(rf"\1{_HIDDEN}\3", text)


class Scrubbed:
    """A text stream that lets no secret through.

    Args:
        stream: Where the rest goes.
        config: As for :func:`scrub`.
    """

    def __init__(self, stream: TextIO, config: str = "") -> None:
        self._stream = stream
        self._config = config

    def write(self, text: str) -> int:
        """Writes a text without its secrets."""
        self._stream.write(scrub(text, self._config))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def recorded(node: DictConfig, key: str) -> Any:
    """A value as records hold it: a reference to the environment stays one."""
    plain = OmegaConf.to_container(node)
    text = plain.get(key) if isinstance(plain, dict) else None
    return text if isinstance(text, str) and "oc.env" in text else node.get(key)


def resolved(text: str) -> str:
    """What a recorded value stands for, in this process's environment."""
    return str(OmegaConf.create({"value": text}).value) if "${oc.env:" in text else text


def _holds_secret(key: str, text: str) -> bool:
    if "${" in text:
        return False
    if name := _NAME.search(key):
        is_token = name.group(0).lower() == "token"
        return bool(_TOKEN.fullmatch(text) if is_token else text not in ("", "???"))
    return bool(_URL.search(text)) or any(value in text for value in _values())


def _values(config: str = "") -> list[str]:
    """The environment's secrets; longest first, for one may be part of another."""
    referred = {name for name in _REFERENCE.findall(config) if not _is_path(name)}
    names = {name for name in os.environ if _NAME.search(name)} | referred
    found = {os.environ.get(name, "") for name in names}
    return sorted((value for value in found if len(value) >= _SHORTEST), key=len, reverse=True)


def _is_path(name: str) -> bool:
    value = os.environ.get(name, "")
    return value.startswith("/") and Path(value).exists()


def _texts(node: Any, above: str = "") -> Iterator[tuple[str, str]]:
    """Every text in a config, by its dotted key."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _texts(value, f"{above}.{key}" if above else str(key))
    elif isinstance(node, list):
        for value in node:
            yield from _texts(value, above)
    elif isinstance(node, str):
        yield above, node
