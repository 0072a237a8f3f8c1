"""Parameters with options of their own, and frozen ones: by patterns of their names.

``training.param_groups`` has a pattern and options for each group, and ``training.freeze`` is a
list of patterns. A pattern is a regular expression that the whole name must match.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dlsweep.errors import ConfigError, did_you_mean

#: What a group may set, as in PyTorch.
OPTIONS = ("lr", "weight_decay")
#: The number of names that an error lists.
_SHOWN = 12


@dataclass(frozen=True)
class Options:
    """Which parameters have options of their own, and which are not trained.

    Attributes:
        param_groups: By name: ``match``, and ``lr`` or ``weight_decay`` or both. A parameter that
            several groups match has the options of all; of the same option, the last group's.
        freeze: The patterns of parameters that are not trained.

    Raises:
        ConfigError: If a pattern is no regular expression, or an option is unknown or no number.
    """

    param_groups: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    freeze: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name, group in self.param_groups.items():
            _check_group(f"training.param_groups.{name}", group)
        for key, pattern in self._patterns():
            _check_pattern(key, pattern)

    def __bool__(self) -> bool:
        return bool(self.param_groups or self.freeze)

    def freezes(self, name: str) -> bool:
        """Whether a parameter, or a statistic such as that of batch norm, stays as it is."""
        return any(re.fullmatch(pattern, name) for pattern in self.freeze)

    def of(self, name: str) -> dict[str, float]:
        """Returns the options that a parameter has of its own."""
        found: dict[str, float] = {}
        for group in self.param_groups.values():
            if re.fullmatch(group["match"], name):
                found |= {key: float(group[key]) for key in OPTIONS if key in group}
        return found

    def check(self, names: Iterable[str]) -> None:
        """Checks the patterns with the names of a model's parameters.

        Raises:
            ConfigError: If a pattern matches no parameter, a group only frozen ones, or all are
                frozen.
        """
        known = list(names)
        trained = [name for name in known if not self.freezes(name)]
        for key, pattern in self._patterns():
            if not any(re.fullmatch(pattern, name) for name in known):
                raise ConfigError(
                    f"{key}: Received {pattern!r}, which matches no parameter of the model.\n"
                    f"Expected a regular expression that matches whole names, such as "
                    f"{_listed(known)}"
                )
        if not trained:
            raise ConfigError(
                f"training.freeze: Received {list(self.freeze)}, which freezes all {len(known)} "
                f"parameters of the model.\nExpected some to train, of {_listed(known)}"
            )
        for name, group in self.param_groups.items():
            if not any(re.fullmatch(group["match"], one) for one in trained):
                raise ConfigError(
                    f"training.param_groups.{name}.match: Received {group['match']!r}, and "
                    f"training.freeze freezes every parameter of it.\n"
                    f"Expected one that is trained, such as {_listed(trained)}"
                )

    def grouped(
        self, parameters: Iterable[tuple[str, Any]]
    ) -> list[tuple[dict[str, float], list[Any]]]:
        """Groups parameters by their options; the first group, which may be empty, has none."""
        groups: dict[tuple[tuple[str, float], ...], list[Any]] = {(): []}
        for name, parameter in parameters:
            groups.setdefault(tuple(sorted(self.of(name).items())), []).append(parameter)
        return [(dict(options), members) for options, members in groups.items()]

    def _patterns(self) -> Iterator[tuple[str, Any]]:
        for name, group in self.param_groups.items():
            yield f"training.param_groups.{name}.match", group["match"]
        for number, pattern in enumerate(self.freeze):
            yield f"training.freeze[{number}]", pattern


def _check_group(key: str, group: object) -> None:
    if not isinstance(group, Mapping) or "match" not in group:
        raise ConfigError(
            f"{key}: Received {group!r}. Expected match, a pattern of names, and options.\n"
            f"Type, for instance,  '{key}={{match: \"head.*\", lr: 1e-2}}'"
        )
    options = {name: value for name, value in group.items() if name != "match"}
    for name, value in options.items():
        if name not in OPTIONS:
            raise ConfigError(
                f"{key}.{name}: a group has no such option.{did_you_mean(name, OPTIONS)}\n"
                f"Expected match and {' or '.join(OPTIONS)}."
            )
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (is_number and 0 <= value < math.inf):
            raise ConfigError(f"{key}.{name}: Received {value!r}. Expected a number, 0 or more.")
    if not options:
        raise ConfigError(f"{key}: Received no option. Expected {' or '.join(OPTIONS)}.")


def _check_pattern(key: str, pattern: Any) -> None:
    try:
        re.compile(pattern)
    except (re.error, TypeError) as error:
        raise ConfigError(
            f"{key}: Received {pattern!r}, which is no regular expression: {error}.\n"
            "Expected one that matches whole names of parameters, such as  backbone.*"
        ) from None


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
