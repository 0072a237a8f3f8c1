"""How far one driver goes: 1,000 simulated workers under the real sweep, study and mirror.

The sweep is a real command with a launcher whose trials are simulated. They write real run folders
and records and wait for real verdicts, but they train in no time: when the driver is idle, the
simulated clock jumps to the next event. What the driver itself does takes as long as it takes, and
what the trials would do elsewhere takes none. So hours of a cluster pass in minutes, and a driver
that is too slow shows as slots that wait and verdicts that come late.

Trials take seconds to hours (median 5 min), report every minute, are pruned by the median, fail
(2 %) and straggle (1 %, ten times as long). For ``--stored``, the study is first filled with copies
of its own trials. Prints a line for each, and fails below the bars: 95 % of the slots in use, from
when they are first filled until the last trial is launched, and 99 of 100 verdicts within 1 s::

    python tests/benchmarks/bench_scale.py --workers 1000 --trials 3000 --stored 10000 --postgres
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import itertools
import json
import math
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy import func, insert, literal, select, text

from dlsweep.folders.rundir import Result, RunDir, write_atomically
from dlsweep.launchers.base import Job, Judge, Launcher
from dlsweep.run.run import Run

HERE = Path(__file__).parent
USED, SOON = 0.95, 1.0
#: Trials of a study before copies of them fill it.
COPIED = 200
#: Seconds of a trial: the median, and the spread of its logarithm; and between two reports.
MEDIAN, SPREAD, EVERY = 300.0, 1.2, 60.0
#: Tables with a row for each trial, and those with rows of trials.
TRIALS = "trials"
PARTS = (
    "trial_params",
    "trial_values",
    "trial_user_attributes",
    "trial_system_attributes",
    "trial_intermediate_values",
)


class Clock:
    """The driver's time, plus what was skipped, less what the trials did.

    Args:
        busy: The driver's own time: all of it, or, where neighbours take the processor away, that
            of its processor, without what it waits for the disk or a server.
    """

    def __init__(self, busy: Callable[[], float]) -> None:
        self._busy = busy
        self._ahead = -busy()

    @property
    def now(self) -> float:
        return self._busy() + self._ahead

    def skip_to(self, moment: float) -> None:
        self._ahead += max(0.0, moment - self.now)

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        before = self.now
        yield
        self._ahead -= self.now - before


class SimulatedJob(Job):
    """A trial on another machine."""

    def __init__(self, folder: RunDir, began: float) -> None:
        dice = random.Random(folder.path.name)
        seconds = min(dice.lognormvariate(math.log(MEDIAN), SPREAD), 6 * 3600)
        seconds *= 10 if dice.random() < 0.01 else 1
        self.fails_at = dice.random() * seconds if dice.random() < 0.02 else math.inf
        self.steps = max(1, min(50, round(seconds / EVERY)))
        self.every = seconds / self.steps
        self.folder = folder
        self.began = began
        self.level = dice.random()
        self.step = 0
        self.run: Run | None = None
        self.code: int | None = None

    def poll(self) -> int | None:
        return self.code

    def stop(self, reason: str) -> None:
        self.folder.request_stop(reason)

    def kill(self) -> None:
        self.end(-9)

    def report(self) -> float:
        """Logs the next value."""
        self.run = self.run or Run.open(self.folder.path)
        self.step += 1
        value = self.level + 1 / self.step
        self.run.log({"val/loss": value, "train/loss": 0.9 * value}, self.step)
        return value

    def end(self, code: int, result: Result | None = None) -> None:
        if self.run:
            self.run.__exit__()
        if result:
            self.folder.write_result(result)
        self.run, self.code = None, code


class SimulatedLauncher(Launcher):
    """Starts simulated trials.

    Args:
        workers: The number of slots.
        figures: The file for what was measured.
        processor: Whether to count the driver's processor time only.
    """

    def __init__(self, workers: int, figures: str, processor: bool = False) -> None:
        self._workers = workers
        self._figures = Path(figures)
        self._busy = time.process_time if processor else time.perf_counter
        self._clock = Clock(self._busy)
        self._due: list[tuple[float, int, Callable[[float], None]]] = []
        self._count = itertools.count()
        self._running = 0
        self._late: list[float] = []
        self._uses: list[tuple[float, float]] = []
        self._began = False
        self._full = self._last_launch = 0.0

    def start(self, judge: Judge, *_: object) -> None:
        self._judge = judge

    @property
    def free_slots(self) -> int:
        return self._workers - self._running

    def submit(self, argv: Sequence[str], folder: RunDir) -> Job:
        job = SimulatedJob(folder, self._clock.now)
        if "check" in argv:
            write_atomically(folder.path / "problems.json", "[]")
            write_atomically(folder.path / "changes.json", "{}")
            job.code = 0
            return job
        if not self._began:
            self._began, self._clock = True, Clock(self._busy)  # from the first trial on
            job.began = 0.0
        self._running += 1
        if self._running == self._workers:
            self._full = self._full or job.began
        self._last_launch = job.began
        self._plan(job.began + job.every, job)
        return job

    def wait(self, seconds: float) -> None:
        until = self._clock.now + seconds
        while self._due and self._due[0][0] <= max(self._clock.now, until):
            due, _, event = heapq.heappop(self._due)
            self._clock.skip_to(due)
            event(due)
            until = self._clock.now  # what is due by now is answered in the same turn
        if not self._due or self._due[0][0] > until:
            self._clock.skip_to(until)

    def close(self) -> None:
        first, last = self._full, self._last_launch
        uses = ((max(began, first), min(end, last)) for began, end in self._uses)
        used = sum(max(0.0, end - began) for began, end in uses)
        was_full = 0 < first < last
        late = sorted(self._late)
        figures = {
            "utilisation": used / (self._workers * (last - first)) if was_full else None,
            "filled": first,
            "reports": len(late),
            **{f"p{p}": late[min(len(late) - 1, len(late) * p // 100)] for p in (50, 99)},
            "worst": late[-1],
            "hours": self._clock.now / 3600,
            "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "driver_seconds": time.process_time(),
            "files": len(os.listdir("/proc/self/fd")),
        }
        self._figures.write_text(json.dumps(figures))

    def _plan(self, moment: float, job: SimulatedJob) -> None:
        entry = moment, next(self._count), lambda due: self._report(due, job)
        heapq.heappush(self._due, entry)

    def _report(self, due: float, job: SimulatedJob) -> None:
        if job.code is not None:
            self._end(job, due)
            return
        with self._clock.stopped():
            fails = due - job.began > job.fails_at
            value = 0.0 if fails else job.report()
            if fails:
                job.end(1)
        if fails:
            self._end(job, due)
            return
        stop = self._judge(job.folder)
        answered = self._clock.now
        self._late.append(answered - due)
        if stop or job.step == job.steps:
            with self._clock.stopped():
                status: Any = stop or "completed"
                job.end(0, Result(status, "", {"val/loss": value}, ended=time.time()))
            self._end(job, answered)
        else:
            self._plan(answered + job.every, job)

    def _end(self, job: SimulatedJob, moment: float) -> None:
        self._running -= 1
        self._uses.append((job.began, moment))


def grow(url: str, stored: int) -> None:
    """Fills a study up with copies of its finished trials, in the database."""
    engine = sqlalchemy.create_engine(url)
    tables = sqlalchemy.MetaData()
    tables.reflect(engine, only=[TRIALS, *PARTS])
    trials = tables.tables[TRIALS]
    with engine.begin() as connection:
        count = connection.scalar(select(func.count()).select_from(trials)) or 0
        first = connection.scalar(select(func.min(trials.c.trial_id))) or 0
        for start in range(count, stored, count):
            wanted = trials.c.number < min(count, stored - start)
            moved = {"trial_id": trials.c.trial_id + start, "number": trials.c.number + start}
            copy(connection, trials, moved, wanted)
            for part in (tables.tables[name] for name in PARTS):
                below = part.c.trial_id < first + min(count, stored - start)
                copy(connection, part, {"trial_id": part.c.trial_id + literal(start)}, below)
        if engine.dialect.name == "postgresql":
            top = "SELECT setval('trials_trial_id_seq', (SELECT max(trial_id) FROM trials))"
            connection.execute(text(top))
    engine.dispose()


def copy(connection: Any, table: Any, changed: dict[str, Any], wanted: Any) -> None:
    """Inserts rows of a table again, with some columns changed and a key of their own."""
    key = {column.name for column in table.primary_key} - changed.keys()
    columns = [column for column in table.columns if column.name not in key]
    values = [changed.get(column.name, column) for column in columns]
    rows = select(*values).where(wanted)
    connection.execute(insert(table).from_select([column.name for column in columns], rows))


def size(url: str) -> int:
    """Bytes of a database."""
    engine = sqlalchemy.create_engine(url)
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            found = connection.scalar(text("SELECT pg_database_size(current_database())"))
        else:
            pages = connection.scalar(text("PRAGMA page_count"))
            found = (pages or 0) * (connection.scalar(text("PRAGMA page_size")) or 0)
    engine.dispose()
    return int(found or 0)


def sweep(folder: Path, url: str, workers: int, trials: int, options: Sequence[str] = ()) -> dict:
    """Runs a sweep to that many trials in all; returns what was measured."""
    figures = folder / "figures.json"
    if not any(one.startswith("hydra/sweeper/pruner=") for one in options):
        options = ["hydra.sweeper.pruner.n_warmup_steps=3", *options]
    command = [
        *(sys.executable, "-m", "dlsweep", "+experiment=quadratic", "tracking=csv"),
        "launcher._target_=bench_scale.SimulatedLauncher",
        *("~launcher.start", "~launcher.cpus_per_trial", "~launcher.gpus_per_trial"),
        *("~launcher.preload", "~launcher.env"),
        *(f"+launcher.workers={workers}", f"+launcher.figures='{figures}'"),
        *(f"hydra.sweeper.n_trials={trials}", f"hydra.sweeper.storage={url}"),
        *("hydra/sweeper/sampler=random", *options, "-m"),
    ]
    began = time.monotonic()
    with (folder / "log.txt").open("w") as log:
        subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(HERE)},
            stdout=log,
            stderr=log,
            check=True,
        )
    lasted = time.monotonic() - began
    found = json.loads(figures.read_text())
    return {**found, "trials": trials, "lasted": lasted, "size": size(url)}


def line(name: str, trials: int, found: dict) -> str:
    used = found["utilisation"]
    filled = f"{used:.1%} used once filled in {found['filled']:.0f} s" if used else "never filled"
    return (
        f"{name:<12}{trials:>8} trials  {filled}  verdicts "
        f"{found['p50'] * 1e3:.1f} ms, 99 %: {found['p99'] * 1e3:.0f} ms, worst "
        f"{found['worst']:.2f} s  {found['reports']} reports in {found['hours']:.1f} h  driver "
        f"{found['memory'] / 2**20:.0f} MiB, {found['driver_seconds']:.0f} s, {found['files']} "
        f"files  database {found['size'] / 2**20:.1f} MiB  took {found['lasted']:.0f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--trials", type=int, default=3000, help="trials that are simulated")
    parser.add_argument("--stored", type=int, nargs="*", default=[0], help="trials before them")
    parser.add_argument("--processor", action="store_true", help="count processor time only")
    parser.add_argument("--postgres", action="store_true", help="in PostgreSQL, not in SQLite")
    parser.add_argument("options", nargs="*", help="overrides, as hydra/sweeper/sampler=tpe")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        name, url = "SQLite", "sqlite:///{folder}/study.db"
        if options.postgres:
            sys.path.append(str(HERE.parent / "faults"))
            from postgres_server import running_server

            name, url = "PostgreSQL", stack.enter_context(running_server()).create("scale")
        missed = list(measure(name, url, options))
    if missed:
        raise SystemExit(f"missed: {', '.join(missed)}")


def measure(name: str, url: str, options: argparse.Namespace) -> Iterator[str]:
    """Measures one kind of database; yields the bars that it misses."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        address = url.format(folder=folder)
        done = 0
        for stored in options.stored:
            if stored and not done:  # what is copied
                done = sweep(folder, address, COPIED, COPIED, options.options)["trials"]
            if stored > done:
                grow(address, stored)
                (folder / "outputs/quadratic/trials" / f"{stored - 1:04d}").mkdir(exist_ok=True)
                done = stored
            done += options.trials
            more = [*options.options, f"+launcher.processor={options.processor}"]
            found = sweep(folder, address, options.workers, done, more)
            print(line(name, done, found), flush=True)
            if (found["utilisation"] or 1.0) < USED:
                yield f"{name} at {done}: {found['utilisation']:.1%} used"
            if found["p99"] > SOON:
                yield f"{name} at {done}: {found['p99']:.2f} s"


if __name__ == "__main__":
    main()
