"""Failure policies: whether a trial is retried, and whether its failure counts."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from dlsweep.errors import ConfigError, did_you_mean
from dlsweep.folders.attempt import Attempt
from dlsweep.folders.reserved import OBJECTIVE
from dlsweep.folders.rundir import COMPLETED, FAILURES, Result, RunDir, Status

#: The reason of an attempt that was preempted and whose work is lost.
UNSAVED = "it has saved no newer checkpoint"
#: How many attempts in a row may end so, where the policy has no limit.
_MOST_UNSAVED = 5


@dataclass(frozen=True)
class Policy:
    """The policy for one status, such as ``crashed``.

    Attributes:
        retries: How often the trial is retried, from its last checkpoint and under its own number;
            None for no limit, unless several attempts in a row make no progress.
        pause: Seconds to wait before a retry.
        counts: Whether it counts against ``max_failure_rate``.
        infeasible: Whether the point is reported to the sampler as violating a constraint, so that
            the sampler avoids that region. Otherwise the sampler ignores the point.
    """

    retries: int | None = 0
    pause: float = 0.0
    counts: bool = True
    infeasible: bool = False

    def allows(self, attempts: Sequence[Result]) -> bool:
        """Whether to retry after these attempts; the last one ended with this policy's status."""
        if self.retries is None:
            last = attempts[-_MOST_UNSAVED:]
            return len(last) < _MOST_UNSAVED or any(one.reason != UNSAVED for one in last)
        times = sum(attempt.status == attempts[-1].status for attempt in attempts)
        return times <= self.retries


def read_policies(config: Mapping[str, Any]) -> dict[Status, Policy]:
    """Reads ``hydra.sweeper.failures``.

    Raises:
        ConfigError: If a status or a key does not exist, or a value is out of range.
    """
    ends: list[Status] = [*sorted(FAILURES), "preempted"]
    keys = [field.name for field in fields(Policy)]
    for end, options in config.items():
        key = f"hydra.sweeper.failures.{end}"
        _check_known("hydra.sweeper.failures", end, ends)
        for name in options:
            _check_known(key, name, keys)
        policy = Policy(**options)
        if policy.retries is not None and policy.retries not in range(1_000_000):
            raise ConfigError(
                f"{key}.retries: Received {policy.retries}. Expected a whole number, or null for "
                "no limit."
            )
        if not 0 <= policy.pause < math.inf:
            raise ConfigError(f"{key}.pause: Received {policy.pause}. Expected seconds from 0.")
    return {end: Policy(**config.get(end, {})) for end in ends}


def _check_known(key: str, name: str, known: Sequence[str]) -> None:
    if name not in known:
        hint = did_you_mean(name, known)
        raise ConfigError(f"{key}: Received {name!r}. Expected {', '.join(known)}.{hint}")


def explained(folder: RunDir, result: Result) -> Result:
    """Returns the result of a trial; a preempted one says whether its work is lost."""
    if result.status != "preempted" or Attempt.current(folder).has_advanced:
        return result
    return dataclasses.replace(result, reason=UNSAVED)


def given_up(folder: RunDir, result: Result, attempts: Sequence[Result]) -> Result:
    """Returns the result of a trial that is not retried; a preempted one has failed.

    Args:
        folder: The run folder, whose result is corrected.
        result: How the last attempt ended.
        attempts: All attempts that failed.
    """
    if result.status != "preempted":
        return result
    preempted = [one for one in attempts if one.status == "preempted"]
    unsaved = list(itertools.takewhile(lambda one: one.reason == UNSAVED, preempted[::-1]))
    reason = f"preempted {len(preempted)} times"
    if unsaved:
        reason += (
            f", the last {len(unsaved)} without a newer checkpoint. Save more often, have the "
            "training save when run.should_stop is true, or give its jobs more time"
        )
    failed = dataclasses.replace(result, status="timed_out", reason=reason)
    folder.write_result(failed)
    return failed


def checked(
    folder: RunDir, result: Result, objective: Sequence[str], may_have_none: bool
) -> Result:
    """Returns a trial's result; a completed trial without a value of each objective has crashed.

    Args:
        folder: The run folder, whose result is corrected.
        result: How the trial ended.
        objective: The objectives.
        may_have_none: Whether an unnamed objective may be absent, because no value is optimized.
    """
    if result.status not in COMPLETED:
        return result
    absent = [name for name in objective if name not in result.metrics]
    is_unnamed = list(objective) == [OBJECTIVE] and not result.metrics
    if not absent or (may_have_none and is_unnamed):
        return result
    found = ", ".join(result.metrics) or "no metrics"
    reason = f"the run never reported {absent[0]!r}; it has: {found}"
    failed = dataclasses.replace(result, status="crashed", reason=reason)
    folder.write_result(failed)
    return failed
