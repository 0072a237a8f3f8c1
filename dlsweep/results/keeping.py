"""Which trials of a study keep their weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dlsweep.run.keeping import Keep

#: The values of completed trials, by number.
Values = Mapping[int, Sequence[float]]


def kept_trials(values: Values, directions: Sequence[str], keep: Keep) -> set[int]:
    """Returns the numbers of the completed trials whose weights stay.

    With a number N, these are the N best; of equal ones, the earlier. With several objectives, the
    whole Pareto front stays, even if it has more than N trials. If it has fewer, the front of the
    others follows, and so on; within a front, the first objective decides.

    Args:
        values: The values of the objectives.
        directions: ``minimize`` or ``maximize`` for each objective.
        keep: The policy.
    """
    if not isinstance(keep, int):
        return set(values)
    signs = [-1 if direction == "maximize" else 1 for direction in directions]
    costs = {
        number: tuple(sign * value for sign, value in zip(signs, own, strict=True))
        for number, own in values.items()
    }
    left = sorted(costs, key=lambda number: (costs[number], number))
    if len(directions) == 1:
        return set(left[:keep])
    kept = _front(left, costs)
    while len(kept) < min(keep, len(left)):
        rest = [number for number in left if number not in kept]
        kept += _front(rest, costs)[: keep - len(kept)]
    return set(kept)


def _front(ordered: Sequence[int], costs: Mapping[int, tuple[float, ...]]) -> list[int]:
    """Returns the trials that no other dominates.

    Args:
        ordered: Trials by cost, so that none dominates an earlier one.
        costs: The cost of each trial for each objective.
    """
    front: list[int] = []
    for number in ordered:
        if not any(_dominates(costs[other], costs[number]) for other in front):
            front.append(number)
    return front


def _dominates(ours: tuple[float, ...], theirs: tuple[float, ...]) -> bool:
    return ours != theirs and all(a <= b for a, b in zip(ours, theirs, strict=True))
