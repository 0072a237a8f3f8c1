"""A callback that traces batches with PyTorch's profiler."""

from __future__ import annotations

import torch
from torch.profiler import ProfilerActivity, profile

from dlsweep.trainers.callbacks import Callback


class Profiler(Callback):
    """Writes ``profile/trace.json`` into the run folder, and a table of operations beside it.

    Open the trace in https://ui.perfetto.dev or chrome://tracing.

    Args:
        first: The first batch to trace, counted from 1 through all epochs.
        last: The last batch to trace.
    """

    def __init__(self, first: int, last: int) -> None:
        self.first = first
        self.last = last
        self._profile: profile | None = None

    def on_train_batch_begin(self, batch: int) -> None:
        """Starts the profiler at the first batch."""
        if batch == self.first:
            activities = [ProfilerActivity.CPU]
            if torch.cuda.is_available():
                activities.append(ProfilerActivity.CUDA)
            self._profile = profile(activities=activities, record_shapes=True)
            self._profile.start()

    def on_train_batch_end(self, batch: int) -> None:
        """Writes the trace after the last batch."""
        if batch == self.last:
            self._write()

    def on_train_end(self, metrics: object) -> None:  # noqa: ARG002
        """Writes the trace so far if the training ends earlier."""
        self._write()

    def _write(self) -> None:
        if self._profile is None:
            return
        self._profile.stop()
        name = f"profile-{rank}" if (rank := self.run.ranks.rank) else "profile"
        folder = self.run.dir.path / name
        folder.mkdir(exist_ok=True)
        self._profile.export_chrome_trace(str(folder / "trace.json"))
        table = self._profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=50)
        (folder / "operations.txt").write_text(table)
        self._profile = None
