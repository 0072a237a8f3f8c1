"""Keeps secrets out of configs, records and logs.

A secret belongs in the environment, and ``${oc.env:NAME}`` in the config. dlsweep records the
reference; only the process that needs the value resolves it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError

from dlsweep.errors import ConfigError

#: The end of the name of a key or a variable that contains a secret.
_NAME = re.compile(
    r"(?<![a-z])(?:pg(?:ssl)?)?(pass(word|wd|phrase)?|secret|token|credentials?|(api|access|private|secret)[_-]?key)$",
    re.I,
)
#: A token can also be a word of a text: only a value that looks random is a secret.
_TOKEN = re.compile(r"(?=.*\d)[\w./+=:-]{16,}")
_URL = re.compile(r"(://[^/\s:@]*:)([^/\s@$]+)(@)")
#: A password in the query of a database URL, as libpq reads it.
_QUERY = re.compile(r"([?&](?:ssl)?password=)[^&\s$]+", re.I)
_INTERPOLATION = re.compile(r"\$\{[^}]*\}")
_REFERENCE = re.compile(r"\$\{oc\.env:\s*([A-Za-z_]\w*)")
#: Shorter values occur in any text by chance.
_SHORTEST = 8
_HIDDEN = "***"


def check(config: DictConfig, overrides: Iterable[str] = ()) -> None:
    """Checks that a config contains no secret in clear text.

    Args:
        config: The composed config, unresolved.
        overrides: Overrides that it does not contain yet, such as a search space.

    Raises:
        ConfigError: If it contains one; the message has the key, not the value.
    """
    plain = OmegaConf.to_container(config, resolve=False, throw_on_missing=False)
    texts = [(key, text) for key, text in _texts(plain)]
    texts += [(key.lstrip("+~"), text) for key, _, text in (o.partition("=") for o in overrides)]
    for key, text in texts:
        if _holds_secret(key, text):
            name = re.sub(r"\W", "_", re.split(r"[./]", key)[-1]).upper()
            raise ConfigError(
                f"{key} contains a secret in clear text, which every record of the run would "
                "contain.\n"
                "Put it in the environment, and a reference in the config:\n"
                f"  export {name}=…\n  '{key}=${{oc.env:{name}}}'"
            )


def check_database(key: str, url: str) -> None:
    """Checks that the URL of a database, unresolved, contains no password in clear text.

    Raises:
        ConfigError: If it does; says where to put the password.
    """
    text = _INTERPOLATION.sub("$", url)
    if _URL.search(text) or _QUERY.search(text):
        raise ConfigError(
            f"{key} contains a password in clear text, which other users of this machine can read "
            "in the list of processes, and records could contain.\n"
            "Leave it out, and put it in the environment or in a file of mode 600:\n"
            "  export PGPASSWORD=…    or    export PGPASSFILE=~/.pgpass\n"
            f"  {key}=postgresql+psycopg://user@host/database\n"
            f"Of other databases, refer to a variable with the whole URL:  '{key}=${{oc.env:NAME}}'"
        )


def scrub(text: str, config: str = "") -> str:
    """Removes secrets from a text: values of secret variables, and passwords in URLs.

    Args:
        text: A text such as a log line or an error message.
        config: A config's YAML text; the variables that it refers to count as secrets, too.
    """
    for value in _values(config):
        text = text.replace(value, _HIDDEN)
    return _QUERY.sub(rf"\1{_HIDDEN}", _URL.sub(rf"\1{_HIDDEN}\3", text))


class Scrubbed:
    """A text stream that removes secrets.

    Args:
        stream: The stream to write to.
        config: As for :func:`scrub`.
    """

    def __init__(self, stream: TextIO, config: str = "") -> None:
        self._stream = stream
        self._config = config

    def write(self, text: str) -> int:
        """Writes a text without secrets."""
        self._stream.write(scrub(text, self._config))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def recorded(node: DictConfig, key: str) -> Any:
    """Returns a config value as records store it: a reference to the environment stays one."""
    plain = OmegaConf.to_container(node)
    text = plain.get(key) if isinstance(plain, dict) else None
    return text if isinstance(text, str) and "oc.env" in text else node.get(key)


def resolved(text: str) -> str:
    """Resolves a recorded value in this process's environment.

    Raises:
        ConfigError: If a variable that it refers to is not set.
    """
    if "${oc.env:" not in text:
        return text
    try:
        return str(OmegaConf.create({"value": text}).value)
    except InterpolationResolutionError as error:
        names = [name for name in _REFERENCE.findall(text) if name not in os.environ]
        if not names:
            raise ConfigError(f"{text} cannot be resolved: {error}") from None
        raise ConfigError(
            f"{text} refers to the environment variable {names[0]}, which is not set.\n"
            f"Set it:  export {names[0]}=…"
        ) from None


def _holds_secret(key: str, text: str) -> bool:
    if "${" in text:
        return False
    if name := _NAME.search(key):
        is_token = name.group(0).lower() == "token"
        return bool(_TOKEN.fullmatch(text) if is_token else text not in ("", "???"))
    return bool(_URL.search(text)) or any(value in text for value in _values())


def _values(config: str = "") -> list[str]:
    """Returns the environment's secrets, longest first: one may be part of another."""
    referred = {name for name in _REFERENCE.findall(config) if not _is_path(name)}
    names = {name for name in os.environ if _NAME.search(name)} | referred
    found = {os.environ.get(name, "") for name in names}
    return sorted((value for value in found if len(value) >= _SHORTEST), key=len, reverse=True)


def _is_path(name: str) -> bool:
    value = os.environ.get(name, "")
    return value.startswith("/") and Path(value).exists()


def _texts(node: Any, above: str = "") -> Iterator[tuple[str, str]]:
    """Yields every string in a config with its dotted key."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _texts(value, f"{above}.{key}" if above else str(key))
    elif isinstance(node, list):
        for value in node:
            yield from _texts(value, above)
    elif isinstance(node, str):
        yield above, node
