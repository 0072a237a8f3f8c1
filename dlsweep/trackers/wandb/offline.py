"""Reads the files of W&B's offline runs."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dlsweep.folders.rundir import RunDir
from dlsweep.trackers.files import beside

#: Seconds to wait for the end of an offline file; an incomplete file is found later.
_END_PATIENCE = 5.0


def offline_folders(run: RunDir) -> list[Path]:
    """Returns the offline folders of a run: one for each time that it was opened."""
    return sorted(beside(run, "wandb").glob(f"offline-run-*-{run.info().id}*"))


def read_offline(folder: Path) -> Iterator[dict[str, Any]]:
    """Reads an offline run with W&B's own reader.

    Args:
        folder: ``offline-run-<time>-<id>``.

    Yields:
        Each complete record, as ``wandb leet inspect --json`` prints it.
    """
    from wandb.util import get_core_path

    for file in folder.glob("*.wandb"):
        flags = ["--no-observability", "--json", "--run-file", str(file), str(folder.parent)]
        with subprocess.Popen(  # noqa: S603
            [get_core_path(), "leet", "inspect", *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # warns of incomplete files of killed processes
        ) as reader:
            assert reader.stdout
            for line in reader.stdout:
                yield json.loads(line)


def wait_for_end(folders: list[Path]) -> None:
    """Waits for the last record, which W&B's service writes after ``finish`` has returned."""
    deadline = time.monotonic() + _END_PATIENCE
    while time.monotonic() < deadline:
        if all("exit" in (one["type"] for one in read_offline(folder)) for folder in folders):
            return
        time.sleep(0.02)
