"""Names of runs and of swept keys, as trackers show them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from dlsweep.folders.rundir import RunInfo

#: The most characters of a run's name.
_LONGEST = 120
#: The date in front of a single run's time of day; every tracker has it in a column.
_DATE = re.compile(r"^\d{4}-\d\d-\d\d_(?=\d\d-\d\d-\d\d)")
#: Overrides that say where a run is kept, or that its study's name says already.
_KNOWN = re.compile(r"^[+~]*(experiment|outputs|tracking|launcher|hydra)\b")


def run_name(info: RunInfo) -> str:
    """Returns the name of a run: what tells it apart first, then its study, then its parameters.

    A narrow column cuts off the end, so a trial's number, or a single run's time of day, comes
    first: ``0004 mnist optimizer=sgd lr=0.07365``, ``13-41-02 mnist epochs=3``.
    """
    first = _DATE.sub("", info.name)
    values: Mapping[str, Any] = info.params
    if info.number is None:
        overrides = [one for one in info.overrides if not _KNOWN.match(one)]
        values = dict(one.lstrip("+~").partition("=")[::2] for one in overrides)
    short = short_keys(values)
    words = [first, info.study, *(f"{short[key]}={_brief(values[key])}" for key in values)]
    name = " ".join(words)
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"


def short_keys(keys: Iterable[str]) -> dict[str, str]:
    """Returns the shortest end of each key that no other key has.

    ``training.optimizer.lr`` is ``lr``, and ``training/optimizer`` is ``optimizer``; of
    ``encoder.width`` and ``decoder.width`` both stay as they are.
    """
    ends = {key: list(_ends(key)) for key in keys}
    count = Counter(end for found in ends.values() for end in found)
    return {
        key: next((end for end in found if count[end] == 1), key) for key, found in ends.items()
    }


def _ends(key: str) -> Iterable[str]:
    """Yields the ends of a key that begin after a separator, the shortest first, then the key."""
    for found in reversed(list(re.finditer(r"[./]", key))):
        yield key[found.end() :]
    yield key


def _brief(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
