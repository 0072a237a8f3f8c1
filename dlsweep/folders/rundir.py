"""The run folder: the one owner of every path and record of a run.

A run folder is the truth about a run. Everything else is a view of it::

    run.json          describes the run: id, objective, overrides, trackers
    .hydra/           config.yaml (composed, unresolved) and overrides.yaml
    records.jsonl     one line a record: {"step": 3, "time": 1.5e9, "metrics": {...}}
    system.jsonl      system metrics, in the same form; see dlsweep.trial.system_metrics
    checkpoints/      see dlsweep.run.checkpoint
    media/            images, as PNG files that records refer to
    log.txt           what the run printed
    result.json       how it ended; absent while it runs
    user_attrs.json   what training code has set with Run.set_user_attr
    lineage.json      whose weights it has, see dlsweep.folders.lineage
    attempt.json      the current attempt, and attempts.jsonl the results of those that failed
    removed.json      what was removed of its checkpoints once it had ended
    stop              asks the run to stop; contains the reason
    lock, ranks/      of the processes that train
    mirror/           one file for each tracker: how far it is synced
"""

from __future__ import annotations

import json
import math
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from omegaconf import DictConfig

from dlsweep.errors import StudyError
from dlsweep.folders import beside, by_task  # noqa: F401 - configs refer to its resolvers
from dlsweep.folders.reading import open_file, read_json, read_text
from dlsweep.folders.renamed import with_todays_names
from dlsweep.folders.yaml_text import config_yaml, parse_yaml
from dlsweep.security.printable import encodable

Status = Literal[
    "completed",
    "stopped_early",  # by early stopping; counts as completed
    "pruned",
    "stopped",  # by the user, for good: ``python -m dlsweep stop <trial folder>``
    "rejected",  # never launched: it was predicted not to fit into memory
    "interrupted",  # by its driver
    "preempted",  # by a signal to this run only
    "paused",  # until it is promoted
    "crashed",  # by an exception
    "killed",  # by a signal that it cannot handle
    "out_of_memory",
    "diverged",
    "timed_out",
    "node_lost",  # its node or its parent is gone
]
#: Media: a ``kind`` and its fields. An ``image`` has its ``file`` in the run folder; a
#: ``histogram`` has ``counts``, ``edges``, ``sum`` and ``sum_squares``; a ``text`` has ``text``; a
#: ``table`` has ``columns`` and ``rows``.
Media = dict[str, Any]
#: Statuses of runs that have a value.
COMPLETED: frozenset[Status] = frozenset({"completed", "stopped_early"})
#: Statuses of runs that will be resumed; runs with any other status have ended.
UNFINISHED: frozenset[Status] = frozenset({"interrupted", "preempted", "paused"})
FAILURES: frozenset[Status] = frozenset(
    {"crashed", "killed", "out_of_memory", "diverged", "timed_out", "node_lost"}
)
#: What the reading of a damaged record raises.
_DAMAGE = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)
_LARGEST_STEP = 2**63 - 1  # of a record: what 64 bits can hold
#: The exit code of a run whose process disappeared without one.
LOST = 1000
#: The exit code and the reason of a run that found the disk full.
DISK_FULL_CODE, DISK_FULL = os.EX_IOERR, "the disk is full"


@dataclass(frozen=True)
class RunInfo:
    """The description of a run, written once by the driver before the run starts."""

    id: str
    name: str
    study: str
    number: int | None
    objective: list[str]
    directions: list[str]
    overrides: list[str]
    params: dict[str, Any]
    tracking: dict[str, Any]
    created: float
    limits: dict[str, float] = field(default_factory=dict)
    keep: str = "all"  # a policy of dlsweep.run.keeping


@dataclass(frozen=True)
class Record:
    """One record: metrics and media by name at a step, with the wall time in seconds."""

    step: int
    time: float
    metrics: dict[str, float]
    media: dict[str, Media] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """The result of a run.

    Attributes:
        status: How the run ended.
        reason: One sentence for the user; empty if the run completed.
        metrics: The metrics that the training returned, by name.
        started, ended: The start and the end of this attempt, wall time in seconds.
        train_seconds: Seconds of training that led to the result, over all attempts.
        peak_memory: The most bytes that this attempt has used: ``host``, and ``gpu`` of one GPU.
    """

    status: Status
    reason: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    started: float = 0.0
    ended: float = 0.0
    train_seconds: float = 0.0
    peak_memory: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", encodable(str(self.reason)))


class RunDir:
    """The paths of one run. Only this class reads and writes the run's small files."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()
        self.config_file = self.path / ".hydra" / "config.yaml"
        self.overrides_file = self.path / ".hydra" / "overrides.yaml"
        self.info_file = self.path / "run.json"
        self.records_file = self.path / "records.jsonl"
        self.samples_file = self.path / "system.jsonl"
        self.result_file = self.path / "result.json"
        self.attempts_file = self.path / "attempts.jsonl"
        self.log_file = self.path / "log.txt"
        self.stop_file = self.path / "stop"
        self.user_attrs_file = self.path / "user_attrs.json"
        self.lock_file = self.path / "lock"
        self.checkpoints = self.path / "checkpoints"
        self.ranks = self.path / "ranks"

    def media_file(self, name: str, step: int) -> Path:
        """Returns the path of an image."""
        return self.path / "media" / f"{quote(name, safe='')}-{step:08d}.png"

    def mirror_file(self, tracker: str) -> Path:
        """Returns the file with the mirror's position for one tracker."""
        return self.path / "mirror" / f"{tracker}.json"

    def create(self, info: RunInfo, config: DictConfig) -> None:
        """Writes the run's config and description; ``run.json`` last, as it makes a run folder."""
        self.config_file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.config_file, config_yaml(config))
        lines = "".join(f"- {json.dumps(override)}\n" for override in info.overrides)
        write_atomically(self.overrides_file, lines or "[]\n")
        described = {**asdict(info), "tracking": beside.recorded(info.tracking, self.path)}
        write_atomically(self.info_file, json.dumps(described, indent=1))

    def info(self) -> RunInfo:
        """Reads ``run.json``; paths of database files in it are absolute then.

        Raises:
            StudyError: If the folder is not a run folder.
        """
        try:
            info = RunInfo(**read_json(self.info_file))
            if not all(isinstance(text, str) for text in info.overrides):
                raise TypeError(f"its overrides are {info.overrides!r}")
        except TypeError as error:
            raise StudyError(f"{self.info_file} is damaged: {error}") from None
        except FileNotFoundError:
            raise StudyError(
                f"{self.path} is not a run folder: it has no run.json.\n"
                "Expected the folder of one run, such as outputs/mnist/trials/0007"
            ) from None
        return replace(info, tracking=beside.found(info.tracking, self.path))

    def config(self) -> dict[str, Any]:
        """Reads the composed config, interpolations unresolved, modules by today's names."""
        try:
            return parse_yaml(with_todays_names(read_text(self.config_file)))
        except (ValueError, RecursionError) as error:
            raise StudyError(f"{self.config_file} is damaged: {error}") from None

    def result(self) -> Result | None:
        """Reads the run's result; None while it has not ended."""
        try:
            return Result(**read_json(self.result_file))
        except FileNotFoundError:
            return None
        except TypeError as error:
            raise StudyError(f"{self.result_file} is damaged: {error}") from None

    def write_result(self, result: Result) -> None:
        """Writes the run's result."""
        write_atomically(self.result_file, json.dumps(asdict(result), indent=1))

    def user_attrs(self) -> dict[str, Any]:
        """Reads what training code has set with :meth:`dlsweep.Run.set_user_attr`."""
        try:
            attrs = read_json(self.user_attrs_file)
        except FileNotFoundError:
            return {}
        if not isinstance(attrs, dict):
            raise StudyError(f"{self.user_attrs_file} is damaged: it is not a JSON object.")
        return attrs

    def set_user_attr(self, key: str, value: Any) -> None:
        """Writes a user attribute; an earlier value is replaced."""
        attrs = {**self.user_attrs(), key: value}
        write_atomically(self.user_attrs_file, json.dumps(attrs, indent=1))

    def settle(self, code: int, memory_ran_out: bool = False, timed_out: str = "") -> Result:
        """Returns the result of a run whose process is gone, from its folder or its exit code.

        Args:
            code: The exit code of the process, negative for a signal, or ``LOST``.
            memory_ran_out: Whether the kernel's OOM killer was active meanwhile.
            timed_out: The limit for which the driver stopped or killed it, if it did.
        """
        result = self.result()
        is_open = result is None or result.status in UNFINISHED
        if is_open and self.stop_reason() == "stopped":  # also if a signal or a kill came first
            result = replace(result or Result("stopped", ended=time.time()), status="stopped")
            self.write_result(result)
        if timed_out and (result is None or result.status == "timed_out"):
            metrics = result.metrics if result else {}
            result = Result("timed_out", timed_out, metrics, ended=time.time())
            self.write_result(result)
        if code == LOST and result and (result.status, result.reason) == ("interrupted", ""):
            result = result if self.stop_reason() else None  # it ended as its parent was gone
        if result is None:
            status, reason = _death(code, memory_ran_out)
            if not self.info_file.exists():
                reason = "its run folder was deleted while it ran"
            result = Result(status, reason, ended=time.time())
            self.write_result(result)
        return result

    def note_attempt(self, result: Result) -> list[Result]:
        """Appends a failed attempt to ``attempts.jsonl``, once; returns all attempts there."""
        noted = self.attempts()
        if noted[-1:] != [result]:
            line = json.dumps(asdict(result)) + "\n"
            text = "".join(json.dumps(asdict(one)) + "\n" for one in noted) + line
            write_atomically(self.attempts_file, text)
            noted.append(result)
        return noted

    def attempts(self) -> list[Result]:
        """Reads the results of the earlier attempts that failed."""
        try:
            lines = read_text(self.attempts_file).splitlines()
            return [Result(**json.loads(line)) for line in lines]
        except FileNotFoundError:
            return []
        except (ValueError, TypeError, RecursionError) as error:
            raise StudyError(f"{self.attempts_file} is damaged: {error}") from None

    def refuse_links(self) -> None:
        """Checks that no folder here is a symbolic link, and no file a pipe or a device.

        Raises:
            StudyError: If one is: the run would write elsewhere, or wait for ever.
        """
        for path in (self.path, *self.path.glob("*")):
            if path.is_dir() or path == self.path:
                refuse_link(path)
            elif not (path.is_file() or path.is_symlink()):
                raise StudyError(f"{path} is not a regular file. Remove it, or restore the folder.")

    def clear(self) -> None:
        """Removes the result and the stop request of an earlier attempt, before a new one."""
        self.stop_file.unlink(missing_ok=True)
        self.result_file.unlink(missing_ok=True)
        if self.log_file.is_symlink():  # it would be written elsewhere
            self.log_file.unlink()

    def request_stop(self, reason: str) -> None:
        """Asks the run to save and stop. Works across machines that share the folder."""
        write_atomically(self.stop_file, reason)

    def stop_reason(self) -> str | None:
        """Returns the reason of a stop request, or None without one."""
        try:
            return read_text(self.stop_file) or "interrupted"
        except FileNotFoundError:
            return None

    def records(self, offset: int = 0) -> Iterator[tuple[Record, int]]:
        """Yields complete records from a byte offset on, each with the offset after it.

        A last line without a newline is still being written, or torn, and is left out.
        """
        return _records(self.records_file, offset)

    def samples(self, offset: int = 0) -> Iterator[tuple[Record, int]]:
        """Yields system metrics like :meth:`records`; their step is a counter."""
        return _records(self.samples_file, offset)

    def log_tail(self, lines: int = 15) -> str:
        """Returns the end of the run's log."""
        try:
            with open_file(self.log_file) as file:
                file.seek(max(0, self.log_file.stat().st_size - 20_000))
                text = file.read().decode(errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-lines:])


def refuse_link(path: Path) -> None:
    """Checks that a path is not a symbolic link.

    Raises:
        StudyError: If it is.
    """
    if path.is_symlink():
        raise StudyError(
            f"{path} is a link to {path.readlink()}. A run writes only to its own "
            "folder.\nPut the folder itself there, or remove the link."
        )


def _records(path: Path, offset: int) -> Iterator[tuple[Record, int]]:
    try:
        file = open_file(path)
    except FileNotFoundError:
        return
    with file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            yield _record(line, path), offset


def _record(line: bytes, file: Path) -> Record:
    try:
        fields = json.loads(line)
        metrics = {str(name): float(value) for name, value in fields["metrics"].items()}
        media = {str(name): _media(about) for name, about in fields.get("media", {}).items()}
        step, time = int(fields["step"]), float(fields["time"])
        if abs(step) > _LARGEST_STEP or not math.isfinite(time):
            raise ValueError("a step or a time that is no number of its kind")
        return Record(step, time, metrics, media)
    except _DAMAGE as error:
        raise StudyError(f"{file} is damaged: {error} in the line {line[:80]!r}") from None


def _media(about: Media) -> Media:
    """Checks a record's media: an image file must be in the run's own media folder."""
    if about["kind"] == "image" and Path(about["file"]).parts[:-1] != ("media",):
        raise ValueError(f"the image {about['file']} is not in media/")
    return dict(about)


def _death(code: int, memory_ran_out: bool) -> tuple[Status, str]:
    if code == LOST:
        return "node_lost", "its parent process is gone"
    if code == DISK_FULL_CODE:
        return "interrupted", DISK_FULL
    if code >= 0:
        return "crashed", f"its process ended with exit code {code} and no result"
    reason = f"killed by {signal.Signals(-code).name}"
    if memory_ran_out and -code == signal.SIGKILL:
        return "out_of_memory", f"{reason}, as the kernel does when memory runs out"
    return "killed", reason


def write_atomically(path: Path, text: str) -> None:
    """Replaces a file atomically: a reader sees the old text or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with aside.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        aside.unlink(missing_ok=True)
        raise
    aside.replace(path)


def first_nonfinite(metrics: dict[str, float]) -> str | None:
    """Returns the name of the first metric that is NaN or infinite, if any."""
    return next((name for name, value in metrics.items() if not math.isfinite(value)), None)
