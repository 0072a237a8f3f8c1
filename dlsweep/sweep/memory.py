"""Predicts which points do not fit into memory, from what finished trials needed.

A trial that runs out of memory costs a launch and says little: only that its point needs more than
there is. Those that fit say how the need grows with each swept key. A point is rejected only if it
is almost sure that it needs more than points that ran out of memory, or than there is anywhere. The
same figures say which trials fit into the memory of a GPU together.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dlsweep.drive.progress import View, size
from dlsweep.folders.reserved import PEAK_MEMORY, REASON
from dlsweep.folders.rundir import COMPLETED, Result
from dlsweep.results.report.numbers import finite
from dlsweep.results.tables import point_of, state_of
from dlsweep.sweep.growth import Growth, Vector, encoded, fit
from dlsweep.sweep.pausing import Trial
from dlsweep.sweep.study import Study

#: Statuses of trials that trained, so that their peak is what their point needs.
_FITTED = COMPLETED | {"pruned", "diverged"}
#: So many trials must have run out of memory below a point: one may have had bad luck.
_WITNESSES = 2
#: After so many rejections in a row the next point is launched, to check the prediction.
_MOST = 10
#: The part of what there is that a trial must have used, before others are compared with all of it.
_NEAR = 1 / 8
#: The trials that are learned from: the last ones that fitted.
_LEARNED = 1000
#: Words in the message of a GPU that has run out of memory.
_GPU_WORDS = re.compile(r"\b(cuda|gpu|hip|rocm|xpu|cudnn|cublas)\b", re.IGNORECASE)
_NAMES = {"host": "memory", "gpu": "GPU memory"}
#: Nodes whose memory differs by less than this part have the same.
_SAME = 0.05


Limits = Mapping[str, int]


@dataclass(frozen=True)
class _Fitted:
    """An encoded point that fitted, and the bytes that it needed at most, by kind of memory."""

    row: Vector
    peaks: Mapping[str, float]


class MemoryForecast:
    """Says which points would not fit into memory, and how much others need at most.

    It knows only what the study has stored, so a resumed sweep decides as an undisturbed one.

    Args:
        study: The study.
        nodes: Returns the bytes of ``host`` and ``gpu`` memory that a trial may use, for each node
            that may run it; empty as long as that is not known.
        view: Shows that a prediction is checked.
    """

    def __init__(self, study: Study, nodes: Callable[[], Sequence[Limits]], view: View) -> None:
        self._study = study
        self._ask_nodes = nodes
        self._view = view
        self._has_read = False
        self._fitted: dict[int, _Fitted] = {}
        self._lacked: dict[str, dict[int, Mapping[str, Any]]] = {"host": {}, "gpu": {}}
        self._rejected: set[int] = set()
        self._largest = dict.fromkeys(_NAMES, 0.0)
        self._models: dict[str, Growth | None] = {}

    def note(self, number: int, params: Mapping[str, Any], result: Result) -> None:
        """Learns from a trial that has ended."""
        if self._nodes():
            self._note(number, params, result.status, result.reason, result.peak_memory)

    def objection(self, trial: Trial) -> str:
        """Returns why a trial would not fit; empty if it may be launched."""
        why = self._doubt(trial)
        if not (why and self._is_check(trial.number)):
            return why
        self._view.say(
            f"{_MOST} points in a row were rejected; {trial.number:04d} is launched to check that."
        )
        return ""

    def rejects(self, trial: Trial) -> bool:
        """Whether there is an objection to a trial."""
        return bool(self._doubt(trial)) and not self._is_check(trial.number)

    def most(self, trial: Trial) -> dict[str, float]:
        """Returns the bytes that a trial needs at most, by kind, as far as trials tell."""
        models = {kind: self._model(kind) for kind in _NAMES} if self._nodes() else {}
        needs = {kind: model and model.most(trial.params) for kind, model in models.items()}
        return {kind: need for kind, need in needs.items() if need}

    def least(self) -> dict[str, float]:
        """Returns the bytes that every trial needs at least, by kind, where they are predicted."""
        models = {kind: self._model(kind) for kind in _NAMES} if self._nodes() else {}
        return {kind: model.least_known for kind, model in models.items() if model}

    def _nodes(self) -> Sequence[Limits]:
        """Returns the memory of the nodes; reads the study once that is known."""
        nodes = self._ask_nodes()
        if nodes and not self._has_read:
            self._has_read = True
            for trial in self._study.finished_trials():
                attrs = trial.user_attrs
                reason, peaks = attrs.get(REASON, ""), attrs.get(PEAK_MEMORY, {})
                self._note(trial.number, point_of(trial), state_of(trial), reason, peaks)
        return nodes

    def _doubt(self, trial: Trial) -> str:
        nodes = () if self._study.is_enqueued(trial) else self._nodes()
        if not nodes:
            return ""
        found = (self._judged(kind, trial.params, nodes) for kind in sorted(_NAMES))
        return next(filter(None, found), "")

    def _note(
        self,
        number: int,
        params: Mapping[str, Any],
        status: str,
        reason: str,
        peaks: Any,
    ) -> None:
        if status == "rejected":
            self._rejected.add(number)
        elif status == "out_of_memory":
            kind = "gpu" if _GPU_WORDS.search(str(reason)) else "host"
            self._lacked[kind][number] = params
        elif status in _FITTED and (known := _positive(peaks)):
            row = encoded(self._study.space.dimensions, params)
            self._fitted[number] = _Fitted(row, known)
            self._largest = {kind: max(self._largest[kind], known.get(kind, 0)) for kind in _NAMES}
            self._models = {}
            if len(self._fitted) > 2 * _LEARNED:
                self._fitted = {n: self._fitted[n] for n in sorted(self._fitted)[-_LEARNED:]}

    def _judged(self, kind: str, params: Mapping[str, Any], nodes: Sequence[Limits]) -> str:
        limits = [node.get(kind, math.inf) for node in nodes]
        limit = max(limits)
        # What a small node has no memory for may fit on a larger one.
        lacked = self._lacked[kind] if min(limits) >= (1 - _SAME) * limit else {}
        is_near = self._largest[kind] > _NEAR * limit
        if len(lacked) < _WITNESSES and not is_near:
            return ""
        model = self._model(kind)
        expected = model.expected(params) if model else None
        if model is None or model.is_flat or expected is None or expected <= model.largest:
            return ""
        if len(lacked) < _WITNESSES and expected <= limit:
            return ""
        least = model.least(params)
        if least <= model.largest:
            return ""
        needs = f"it needs at least {size(least)} of {_NAMES[kind]}, about {size(expected)}"
        if least > limit and is_near:
            return f"{needs}; no trial can have more than {size(limit)}"
        less = [number for number, other in lacked.items() if model.needs_more(params, other)]
        if len(less) < _WITNESSES:
            return ""
        named = ", ".join(f"{number:04d}" for number in sorted(less)[:_WITNESSES])
        return f"{needs}; {len(less)} trials that needed less ran out of it, as {named}"

    def _model(self, kind: str) -> Growth | None:
        if kind not in self._models:
            dimensions = self._study.space.dimensions
            numbers = [n for n in sorted(self._fitted) if kind in self._fitted[n].peaks]
            known = [self._fitted[number] for number in numbers[-_LEARNED:]]
            rows, peaks = [one.row for one in known], [one.peaks[kind] for one in known]
            self._models[kind] = fit(dimensions, rows, peaks)
        return self._models[kind]

    def _is_check(self, number: int) -> bool:
        """Whether the trial is launched against the prediction, because so many were not."""
        return all(number - back in self._rejected for back in range(1, _MOST + 1))


def _positive(peaks: Any) -> dict[str, float]:
    """Returns the figures among what a folder or a database says, which may be anybody's."""
    found = {kind: finite(peaks.get(kind)) for kind in _NAMES} if isinstance(peaks, dict) else {}
    return {kind: peak for kind, peak in found.items() if peak and peak > 0}
