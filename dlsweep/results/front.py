"""The best trial of a study, or the Pareto front of several objectives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def with_trial(
    front: Mapping[int, list[float]], number: int, values: list[float], directions: Sequence[str]
) -> dict[int, list[float]]:
    """Returns the front with one more trial, if no other one is at least as good as it.

    Args:
        front: The values of the best trials so far, by number.
        number: The number of the trial.
        values: Its values; none is NaN.
        directions: ``minimize`` or ``maximize`` for each.
    """
    signs = [1 if way == "minimize" else -1 for way in directions]

    def beats(ours: list[float], theirs: list[float]) -> bool:
        return all(sign * a <= sign * b for sign, a, b in zip(signs, ours, theirs, strict=True))

    if any(beats(other, values) for other in front.values()):
        return dict(front)
    rest = {n: other for n, other in front.items() if not beats(values, other)}
    return {**rest, number: values}


def in_words(front: Mapping[int, list[float]]) -> str:
    """Returns the best value and its trial in a few words; empty without one."""
    if len(front) > 1:
        return f"{len(front)} on the Pareto front"
    return "".join(f"{values[0]:.6g} (trial {number:04d})" for number, values in front.items())
