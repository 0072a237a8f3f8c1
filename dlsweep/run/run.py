"""The Run object for training code: log metrics, save checkpoints, ask whether to stop."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from dlsweep.errors import ConfigError, StudyError
from dlsweep.folders.attempt import Attempt
from dlsweep.folders.lock import Lock
from dlsweep.folders.reading import open_file
from dlsweep.folders.reserved import OBJECTIVE, OWN_ATTRS
from dlsweep.folders.rundir import Media, RunDir, refuse_link
from dlsweep.run import media
from dlsweep.run.channel import Channel
from dlsweep.run.checkpoint import Checkpointer
from dlsweep.run.ranks import ALONE, Ranks
from dlsweep.security.printable import encodable

#: How often a run looks for a stop request while it waits for no answer, in seconds.
_LOOK_EVERY = 0.1
#: How long a run waits for its own earlier process to end, in seconds.
_LOCK_PATIENCE = 60.0


class Run:
    """One training run; open it on its folder with :meth:`open`.

    Attributes:
        dir: The run folder.
        info: The run's description, from ``run.json``.
        config: The composed config, interpolations resolved on access.
        checkpoints: Saves and finds this run's checkpoints.
        train_seconds: Seconds of training until the checkpoint that this attempt starts from.
        ranks: The processes that train it together; only the first one logs and saves.
        attempt: The attempt of the run that this process is; a later one shuts it out.
    """

    def __init__(self, folder: RunDir, channel: Channel | None = None) -> None:
        self.dir = folder
        self.info = folder.info()
        self.config = OmegaConf.create(folder.config())
        self.stop_reason: str | None = None
        self.train_seconds = 0.0
        self.ranks = ALONE
        self.attempt = Attempt.of_this_process(folder)
        self._channel = channel
        self._lock = Lock(folder.lock_file)
        self._file: int = -1
        self._known: dict[str, int] = {}
        self._names: set[str] = set()  # those that have been checked
        self._looked = 0.0
        self._started = time.monotonic()
        objective = self.info.objective[0] if self.info.objective else None
        self.checkpoints = Checkpointer(
            folder.checkpoints,
            monitor=objective,
            mode="max" if self.info.directions[:1] == ["maximize"] else "min",
            records=folder.records_file,
            seconds=lambda: self.seconds,
            run=self.info.id,
            attempt=self.attempt,
        )

    @classmethod
    def open(cls, path: str | os.PathLike[str], channel: Channel | None = None) -> Run:
        """Locks a run folder and continues its records.

        Raises:
            StudyError: If another process is still training in the folder.
        """
        run = cls(RunDir(path), channel)
        if not run._lock.wait(_LOCK_PATIENCE):
            raise StudyError(f"{run.dir.path} is being trained by {run._lock.holder()}.")
        try:
            run._open_records()
        except BaseException:
            run._lock.release()
            raise
        return run

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.checkpoints.settle()
        finally:
            os.close(self._file)
            self._lock.release()
            if self._channel:
                self._channel.close()

    def join(self, ranks: Ranks) -> None:
        """Adds this process to those that train the run."""
        self.ranks = self.checkpoints.ranks = ranks
        if ranks.rank:
            self._channel = None

    @property
    def name(self) -> str:
        """The run's name, unique within its study."""
        return self.info.name

    @property
    def seconds(self) -> float:
        """Seconds of training, including those before the starting checkpoint."""
        return self.train_seconds + time.monotonic() - self._started

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Logs metrics. Once this returns, a kill cannot lose them.

        A run that resumes from a checkpoint passes some steps a second time. What was logged at
        these steps before is not logged twice.

        Args:
            metrics: Values by name, such as ``{"train/loss": 0.3, "val/accuracy": 0.9}``; anything
                that ``float()`` takes.
            step: The step, usually the epoch; pruners compare runs at equal steps.

        Raises:
            ConfigError: If a name is empty or not valid text, or the step is not a whole number.
        """
        self._check(metrics, step)
        values = {name: float(value) for name, value in metrics.items()}
        if self.ranks.rank:
            return
        if self._known:
            values = {k: v for k, v in values.items() if self._known.get(k, step - 1) < step}
        if not values:
            return
        record = {"step": int(step), "time": time.time(), "metrics": values}
        append_line(self._file, json.dumps(record).encode() + b"\n")
        if self._channel and self.info.objective and self.info.objective[0] in values:
            self._channel.notify()

    def log_image(self, name: str, image: Any, step: int) -> None:
        """Logs an image; trackers show it by step.

        Args:
            name: A name such as ``val/examples``.
            image: A Pillow image, or an array of shape [height, width] or [height, width,
                channels] with 1, 3 or 4 channels: uint8, or floats from 0 to 1.
            step: The step.

        Raises:
            DataError: If it is not an image.
        """
        self._log_png(name, step, lambda: media.png(image))

    def log_figure(self, name: str, figure: Any, step: int) -> None:
        """Logs a Matplotlib figure as an image.

        Raises:
            DataError: If it is not a figure.
        """
        self._log_png(name, step, lambda: media.figure_png(figure))

    def log_histogram(self, name: str, values: Any, step: int) -> None:
        """Logs a histogram of values: an array of any shape, such as a layer's weights."""
        self._log_media(name, step, lambda: media.histogram(values))

    def log_text(self, name: str, text: str, step: int) -> None:
        """Logs a text, such as a sample that a model has written."""
        self._log_media(name, step, lambda: {"kind": "text", "text": encodable(str(text))})

    def log_table(
        self, name: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], step: int
    ) -> None:
        """Logs a table, such as predictions beside their targets.

        Raises:
            DataError: If a row is longer or shorter than the columns.
        """
        self._log_media(name, step, lambda: media.table(columns, rows))

    def set_user_attr(self, key: str, value: Any) -> None:
        """Sets a user attribute of the trial, as in Optuna: for the study, trackers and tables.

        Args:
            key: Its name.
            value: A plain JSON value.

        Raises:
            ConfigError: If dlsweep itself uses the name, or the value is not plain.
        """
        self._check([key], 0)
        if key in OWN_ATTRS:
            raise ConfigError(
                f"set_user_attr: {key!r} is an attribute of dlsweep's. Expected another."
            )
        try:
            json.dumps(value)
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"set_user_attr: {key!r}: {error}. Expected a plain JSON value."
            ) from None
        if not self.ranks.rank:
            self.dir.set_user_attr(key, value)

    @property
    def should_stop(self) -> bool:
        """Whether to save and return now: pruned, interrupted, or out of time.

        Read it at a safe point, such as an epoch's end. If the last :meth:`log` held the
        objective, this waits a few milliseconds for the pruner's answer. If several processes
        train the run together, each must read it at the same point.
        """
        reason = self.ranks.agree(lambda: self.pending_stop)
        if self.ranks.rank:  # rank 0 decides; it may have got a signal meanwhile
            self.stop_reason = reason
        return reason is not None

    @property
    def pending_stop(self) -> str | None:
        """Returns why this process should stop, or None; other ranks may not know yet."""
        if self.stop_reason is None:
            self.stop_reason = self._channel.verdict() if self._channel else None
        if self.stop_reason is None and time.monotonic() - self._looked > _LOOK_EVERY:
            self._looked = time.monotonic()
            self.stop_reason = self.dir.stop_reason()
            if not self.attempt.is_current:
                self.stop_reason = "interrupted"
        return self.stop_reason

    def stop(self, reason: str = "interrupted") -> None:
        """Sets the flag that :attr:`should_stop` reads."""
        self.stop_reason = self.stop_reason or reason

    def require(self, metrics: Mapping[str, float]) -> None:
        """Checks that the returned metrics contain the objective.

        Raises:
            ConfigError: If they do not; lists the metrics that there are.
        """
        if not metrics and self.info.objective == [OBJECTIVE]:
            return  # a grid may do without; the driver decides
        is_own = OmegaConf.select(self.config, "training.monitor") is not None
        key = "training.monitor" if is_own else "hydra.sweeper.metric"
        for name in self.info.objective:
            if name not in metrics:
                raise ConfigError(
                    f"The sweep's objective is {name!r}, which the run never reported.\n"
                    f"Received: {', '.join(sorted(metrics)) or 'no metrics at all'}.\n"
                    f"Log or return it, or set another:  {key}=<metric>"
                )

    def last_metrics(self) -> dict[str, float]:
        """Returns the latest logged value of every metric."""
        latest: dict[str, float] = {}
        for record, _ in self.dir.records():
            latest.update(record.metrics)
        return latest

    def _check(self, names: Iterable[str], step: int) -> None:
        for name in names:
            if name in self._names:
                continue
            if not isinstance(name, str) or not name.strip() or encodable(name) != name:
                raise ConfigError(
                    f"log: Received the name {name!r}. Expected text such as 'val/accuracy'."
                )
            self._names.add(name)
        if int(step) != step:
            raise ConfigError(f"log: Received step={step!r}. Expected a whole number.")

    def _log_png(self, name: str, step: int, make: Callable[[], bytes]) -> None:
        def keep() -> Media:
            file = self.dir.media_file(name, step)
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(make())
            return {"kind": "image", "file": str(file.relative_to(self.dir.path))}

        self._log_media(name, step, keep)

    def _log_media(self, name: str, step: int, make: Callable[[], Media]) -> None:
        """Appends a record, unless the run passes this step a second time."""
        self._check([name], step)
        if self.ranks.rank or self._known.get(name, step - 1) >= step:
            return
        about = {"step": int(step), "time": time.time(), "metrics": {}, "media": {name: make()}}
        append_line(self._file, json.dumps(about).encode() + b"\n")

    def _open_records(self) -> None:
        """Opens the record file: cuts a torn last line, finds the steps already logged."""
        self.checkpoints.publish_leftover()
        checkpoint = self.checkpoints.latest()
        offset = checkpoint.records if checkpoint else 0
        self.train_seconds = checkpoint.seconds if checkpoint else 0.0
        for record, end in self.dir.records(offset):
            offset = end
            for name in (*record.metrics, *record.media):
                self._known[name] = max(record.step, self._known.get(name, record.step))
        self.attempt.check()
        refuse_link(self.dir.records_file)
        self._file = renewed(self.dir.records_file, offset)


def renewed(path: Path, size: int) -> int:
    """Opens a new file for appending, with the first bytes of the file that it replaces.

    A process that still has the old file open appends to what nobody reads.
    """
    flags = os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW
    if not path.exists():
        return os.open(path, flags, 0o644)
    aside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    file = os.open(aside, flags | os.O_TRUNC, 0o644)
    try:
        with open_file(path) as old:
            while size > 0 and (block := old.read(min(size, 1 << 20))):
                size -= os.write(file, block)
        os.fsync(file)
        aside.rename(path)
    except OSError:
        os.close(file)
        aside.unlink(missing_ok=True)
        raise
    return file


def append_line(file: int, line: bytes) -> None:
    """Appends a whole line to an open file, or nothing if the disk is full."""
    size = os.fstat(file).st_size
    try:
        written = os.write(file, line)
        while written < len(line):
            written += os.write(file, line[written:])
    except OSError:
        os.ftruncate(file, size)
        raise
