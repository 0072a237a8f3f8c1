"""The lineage of a trial under population based training: whose weights it has gone on from.

``lineage.json`` in the run folder is a list, first to last. Its first entry is how the trial began.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from dlsweep.errors import StudyError
from dlsweep.folders.reading import read_json
from dlsweep.folders.rundir import RunDir, write_atomically

LINEAGE = "lineage.json"
#: The attribute of Optuna's trial with the same list.
LINEAGE_ATTR = "lineage"


@dataclass(frozen=True)
class Inheritance:
    """The weights and the parameters that a trial goes on with.

    Attributes:
        at: The trial's last step before; 0 for its beginning.
        donor: The trial whose checkpoint it has copied; None for its beginning.
        step: The step of that checkpoint: the trial goes on with the next one.
        checkpoint: The name of that checkpoint.
        params: The trial's parameters from then on.
        changed: The donor's value and the new one of each key that differs from the donor's.
    """

    at: int
    donor: int | None
    step: int
    checkpoint: str
    params: dict[str, Any]
    changed: dict[str, list[Any]] = field(default_factory=dict)

    @classmethod
    def beginning(cls, params: Mapping[str, Any]) -> Inheritance:
        """Returns the first entry: weights of its own."""
        return cls(0, None, 0, "", dict(params))


def read_lineage(entries: Iterable[Any], where: object) -> list[Inheritance]:
    """Reads a lineage from plain values.

    Args:
        entries: The entries.
        where: Where they come from, for the error.

    Raises:
        StudyError: If they are damaged.
    """
    try:
        return [_entry(**entry) for entry in entries]
    except (TypeError, ValueError) as error:
        raise StudyError(f"{where} is damaged: {error}") from None


def _entry(
    at: int,
    donor: int | None,
    step: int,
    checkpoint: str,
    params: dict[str, Any],
    changed: dict[str, list[Any]],
) -> Inheritance:
    whole = donor if donor is None else int(donor)
    return Inheritance(int(at), whole, int(step), str(checkpoint), dict(params), dict(changed))


def plain(lineage: Sequence[Inheritance]) -> list[dict[str, Any]]:
    """Returns a lineage as plain values."""
    return [asdict(entry) for entry in lineage]


def in_words(lineage: Sequence[Inheritance]) -> str:
    """Returns whose weights a trial has copied, and at which of their steps: ``0003@5 0001@8``."""
    return " ".join(f"{one.donor:04d}@{one.step}" for one in lineage if one.donor is not None)


def lineage_of(run: RunDir) -> list[Inheritance]:
    """Reads the lineage of a run; empty without population based training."""
    file = run.path / LINEAGE
    try:
        found = read_json(file)
    except FileNotFoundError:
        return []
    if not isinstance(found, list):
        raise StudyError(f"{file} is damaged: it is no list.")
    return read_lineage(found, file)


def write_lineage(run: RunDir, lineage: Sequence[Inheritance]) -> None:
    """Writes the lineage of a run."""
    write_atomically(run.path / LINEAGE, json.dumps(plain(lineage), indent=1))
