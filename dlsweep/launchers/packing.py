"""Which slot a run gets: runs share a GPU where the memory that they need fits together."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dlsweep.machine.devices import Slot
from dlsweep.machine.memory import memory_limits
from dlsweep.machine.nvml import GPUs

#: The bytes that a run needs at most, of ``host`` and ``gpu`` memory; empty if nothing tells.
Need = Mapping[str, float]
#: The part of a GPU's memory that runs may share; the rest is for what no prediction knows.
_SHARE = 0.95
#: What each process has on a GPU besides its own data: the context of CUDA, its libraries' code.
_CONTEXT = 500_000_000


@dataclass
class _Taken:
    """A slot with a run."""

    slot: Slot
    need: Need


class Packing:
    """Gives runs the slots of this machine.

    A run always gets a GPU that nobody here uses, if there is one. It starts beside others only if
    what all of them need at most fits into the GPU's memory, and into the machine's.

    Args:
        slots: The slots; several may have the same GPU.
        by_count: Whether runs share a GPU also if nothing tells what they need.

    Attributes:
        most: The number of slots.
        shares: Whether runs may share a GPU.
        by_count: As above.
    """

    def __init__(self, slots: Sequence[Slot], by_count: bool = True) -> None:
        self.most = len(slots)
        self.shares = len({slot.gpus for slot in slots}) < len(slots) and bool(slots[0].gpus)
        self.by_count = by_count
        self._free = deque(slots)
        self._taken: dict[Path, _Taken] = {}
        self._crowded: set[Path] = set()
        self._gpus = GPUs(sorted({slot.gpus[0] for slot in slots}) if self.shares else ())
        self._host = memory_limits().get("host", math.inf) if self.shares else math.inf

    @property
    def without_need(self) -> int:
        """The number of runs that can start now, if nothing tells what they need."""
        if self.by_count:
            return len(self._free)
        return len({slot.gpus for slot in self._free if not self._beside(slot)})

    def place(self, need: Need) -> Slot | None:
        """Returns the slot that a run can have now, with the fewest others; None if there is none.

        Args:
            need: What the run needs.
        """
        suiting = [slot for slot in self._free if self._suits(slot, need)]
        return min(suiting, key=lambda slot: len(self._beside(slot)), default=None)

    def take(self, folder: Path, slot: Slot, need: Need) -> bool:
        """Gives a slot to the run that starts next; returns whether it is beside others."""
        beside = self._beside(slot)
        self._free.remove(slot)
        self._taken[folder] = _Taken(slot, need)
        self._crowded.discard(folder)
        if beside:
            self._crowded |= {folder, *beside}
        return bool(beside)

    def slot(self, folder: Path) -> Slot:
        """Returns the slot of a run; the first that is free, if it has none."""
        if folder not in self._taken:
            self.take(folder, self.place({}) or self._free[0], {})
        return self._taken[folder].slot

    def give_back(self, folder: Path) -> None:
        """Frees the slot of a run that has ended."""
        self._free.append(self._taken.pop(folder).slot)

    def was_crowded(self, folder: Path) -> bool:
        """Whether the last attempt of a run had other runs on its GPU at any time."""
        return folder in self._crowded

    def _beside(self, slot: Slot) -> list[Path]:
        """Returns the runs that have a GPU of a slot."""
        gpus = set(slot.gpus)
        return [run for run, taken in self._taken.items() if gpus & set(taken.slot.gpus)]

    def _suits(self, slot: Slot, need: Need) -> bool:
        beside = self._beside(slot)
        if not beside:
            return True
        needs = [need, *(self._taken[run].need for run in beside)]
        memory = self._gpus.memory()
        if not all("gpu" in one for one in needs) or slot.gpus[0] not in memory:
            return self.by_count
        # CUDA may number different GPUs in another way than NVML, so the smallest one counts.
        total = _SHARE * min(total for total, _ in memory.values())
        predicted = sum(one["gpu"] + _CONTEXT for one in needs)
        used = memory[slot.gpus[0]][1] + need["gpu"] + _CONTEXT
        on_host = sum(taken.need.get("host", 0.0) for taken in self._taken.values())
        fits_host = on_host + need.get("host", 0.0) <= self._host
        return max(predicted, used) <= total and fits_host
