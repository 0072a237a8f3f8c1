"""Launches trials beside others on a GPU, where the memory that is predicted for them fits."""

from __future__ import annotations

import math

from dlsweep.drive.driver import Driver
from dlsweep.folders.rundir import Result, RunDir
from dlsweep.folders.studydir import StudyDir
from dlsweep.launchers.packing import Need
from dlsweep.machine.devices import Slot
from dlsweep.sweep.failures import Policy
from dlsweep.sweep.memory import MemoryForecast
from dlsweep.sweep.pausing import Trial

#: A trial that ran out of memory beside others is launched again, with a GPU of its own.
_AGAIN = Policy(retries=None)
_ALONE = {"gpu": math.inf}


class Sharing:
    """Says whether a trial can be launched now, and beside which others.

    Args:
        driver: The driver; its launcher decides which slot a trial gets.
        memory: Predicts what trials need.
        folder: The study folder.
    """

    def __init__(self, driver: Driver, memory: MemoryForecast, folder: StudyDir) -> None:
        self._driver = driver
        packing = driver.launcher.packing
        # Beside others a trial takes longer, and so it might exceed a limit that it keeps alone.
        has_time = not driver.limits.bounds or (packing and packing.by_count)
        self._packing = packing if packing and packing.shares and has_time else None
        self._memory = memory
        self._folder = folder
        self._slot: Slot | None = None
        self._need: Need = {}
        self._has_said = False

    def has_room(self) -> bool:
        """Whether there may be room for the next trial, whose parameters are not known yet."""
        if self._packing is None or self._driver.stopping:
            return self._driver.free_slots > 0
        return self._packing.place(self._memory.least()) is not None

    def suits(self, trial: Trial) -> bool:
        """Whether a trial can be launched now; one that will be rejected needs no room."""
        if self._packing is None:
            return True
        is_new = not self._folder.trial(trial.number).info_file.exists()
        if is_new and self._memory.rejects(trial):
            return True
        self._need = self._need_of(trial)
        self._slot = self._packing.place(self._need)
        return self._slot is not None

    def reserve(self, trial: Trial) -> bool:
        """Takes the slot that a trial suits, which is launched next.

        Returns:
            Whether trials share a GPU by their predicted memory for the first time.
        """
        if self._packing is None or self._slot is None:
            return False
        path, view = self._folder.trial(trial.number).path, self._driver.view
        is_beside = self._packing.take(path, self._slot, self._need)
        if self._has_said or not (is_beside and self._need):
            return False
        self._has_said = True
        view.counts.slots = self._packing.most
        view.say(
            "Trials share GPUs from now on, where the memory that is predicted for them fits. "
            "launcher.gpus_per_trial=1 prevents that."
        )
        return True

    def again(self, folder: RunDir, result: Result) -> Policy | None:
        """Returns how a trial is launched again that ran out of memory beside others, if it did."""
        if result.status != "out_of_memory" or self._packing is None:
            return None
        if not self._packing.was_crowded(folder.path):
            return None
        self._driver.view.say(
            f"  {folder.path.name} ran out of memory beside others, so it gets a GPU of its own."
        )
        return _AGAIN

    def _need_of(self, trial: Trial) -> Need:
        attempts = self._folder.trial(trial.number).attempts()
        if any(attempt.status == "out_of_memory" for attempt in attempts):
            return _ALONE
        return self._memory.most(trial)
