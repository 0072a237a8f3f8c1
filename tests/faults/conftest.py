"""A project with trainings of its own, faults for its sweeps, and what must hold after them."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pandas as pd
import pytest

HERE = Path(__file__).parent
sys.path.append(str(HERE))  # postgres_server
#: How often each fault is tried, in the quick form and in the long one.
COUNTS = {
    "kills of the driver": (2, 60),
    "kills of the driver and the parent of trials": (1, 20),
    "kills of the driver and all trials": (1, 20),
    "kills of the driver and all trials, with a framework": (0, 10),
    "kills of the driver at its writes": (3, 1000),
    "kills under all trackers": (1, 20),
    "kills of the driver and all trials, with PostgreSQL": (2, 40),
    "times that PostgreSQL is killed": (1, 20),
    "times that PostgreSQL is suspended": (1, 20),
    "trials in one study": (300, 20_000),
    "leaking trials": (10, 200),
    "hung trackers": (0, 1),
    "signal=KILL at the calls of a save": (20, 1000),
    "error=ENOSPC at the calls of a save": (12, 1000),
    "error=EIO at the calls of a save": (12, 1000),
    "kills at the calls of a removal": (8, 1000),
}


@pytest.fixture
def times(request: pytest.FixtureRequest) -> Callable[[str], int]:
    """How often to try a fault."""
    is_long = bool(request.config.getoption("--long-faults"))
    return lambda what: COUNTS[what][is_long]


class Sweeps:
    """A user's project, whose sweeps are started, killed and looked at."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.dice = random.Random(5)
        self.drivers: list[subprocess.Popen[str]] = []
        for module in HERE.glob("trainings/*.py"):
            (path / module.name).write_text(module.read_text())

    def start(
        self, *arguments: str, under: Sequence[str] = (), **env: str
    ) -> subprocess.Popen[str]:
        """Starts a sweep, under a program such as strace if one is given."""
        named = any(argument.startswith("+experiment=") for argument in arguments)
        experiment = [] if named else ["+experiment=quadratic"]
        driver = subprocess.Popen(
            [*under, sys.executable, "-m", "dlsweep", *experiment, *arguments],
            cwd=self.path,
            env={**os.environ, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.drivers.append(driver)
        return driver

    def kill_all(self, driver: subprocess.Popen[str]) -> None:
        """Kills a driver and all that it has started, as when its machine goes down."""
        kill([*descendants(driver.pid), driver.pid])
        driver.communicate()

    def end(self) -> None:
        """Ends what a failed test has left."""
        for driver in self.drivers:
            if driver.poll() is None:
                self.kill_all(driver)
            elif driver.stdout and not driver.stdout.closed:
                driver.communicate()

    def run(self, *arguments: str, code: int = 0, under: Sequence[str] = (), **env: str) -> str:
        driver = self.start(*arguments, under=under, **env)
        output, _ = driver.communicate()  # the test itself has a limit, and then all is killed
        assert driver.returncode == code, output
        return output

    def kill_at_random(self, whom: str, times: int, *arguments: str, longest: float = 4.5) -> int:
        """Runs a sweep to its end, killed at random moments; returns how often it was.

        Each time it is killed within half a second and ``longest`` seconds, every second time
        counted from when it has begun to train.
        """
        killed = 0
        while killed < times:
            recorded = self._recorded()
            driver = self.start(*arguments)
            while killed % 2 and driver.poll() is None and self._recorded() == recorded:
                time.sleep(0.02)
            with contextlib.suppress(subprocess.TimeoutExpired):
                driver.wait(self.dice.uniform(0.0 if killed % 2 else 0.5, longest))
            if driver.poll() is not None:
                break
            kill(victims(whom, driver.pid))
            driver.communicate()
            killed += 1
        self.run(*arguments)
        return killed

    def _recorded(self) -> int:
        """How many bytes all trials have recorded."""
        files = self.path.glob("outputs/*/trials/*/records.jsonl")
        return sum(file.stat().st_size for file in files)

    def study(self, name: str) -> Path:
        return self.path / "outputs" / name

    def trials(self, name: str) -> list[Path]:
        return sorted((self.study(name) / "trials").iterdir(), key=lambda trial: int(trial.name))

    def table(self, name: str) -> pd.DataFrame:
        return pd.read_csv(self.study(name) / "trials.csv")

    def assert_exactly_once(self, name: str, count: int) -> None:
        """What is promised of a study that has ended, whatever was killed on the way."""
        self.assert_trials(name, count)
        with contextlib.closing(sqlite3.connect(self.study(name) / "study.db")) as database:
            assert database.execute("SELECT count(*) FROM trials").fetchone() == (count,)
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)

    def assert_trials(self, name: str, count: int) -> None:
        """The same, of all but the database."""
        table = self.table(name)
        assert list(table["number"]) == list(range(count))
        assert set(table["state"]) <= {"completed", "pruned"}, table
        trials = self.trials(name)
        assert [trial.name for trial in trials] == [f"{number:04d}" for number in range(count)]
        infos = [json.loads((trial / "run.json").read_text()) for trial in trials]
        assert len({info["id"] for info in infos}) == count
        assert [info["number"] for info in infos] == list(range(count))
        for trial in trials:
            assert_no_gap(trial)
        assert not self.training_in(name)

    def training_in(self, name: str) -> list[int]:
        """The processes that hold the lock of a trial."""
        found, trials = [], self.study(name) / "trials"
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has ended
                files = [Path(os.path.realpath(file)) for file in (process / "fd").iterdir()]
                if any(file.name == "lock" and trials in file.parents for file in files):
                    found.append(int(process.name))
        return found


@pytest.fixture
def sweeps(tmp_path: Path) -> Iterator[Sweeps]:
    project = Sweeps(tmp_path)
    yield project
    project.end()


@pytest.fixture
def strace() -> Callable[..., list[str]]:
    """The command that traces, or disturbs, system calls of what follows it."""
    if not shutil.which("strace"):
        pytest.skip("strace is not installed: apt-get install strace")
    probe = subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, text=True)
    if probe.returncode:
        pytest.skip(f"strace may not trace here: {probe.stderr.strip()}")

    def command(calls: str, into: Path | str = "/dev/null", inject: str = "") -> list[str]:
        options = ["-e", f"inject={calls}:{inject}"] if inject else []
        return ["strace", "-qq", "-y", "-o", str(into), "-e", f"trace={calls}", *options]

    return command


@pytest.fixture
def preload(tmp_path: Path) -> Callable[[str], str]:
    """Compiles a C file that stands beside the tests; what LD_PRELOAD is to be."""

    def compiled(name: str) -> str:
        if not shutil.which("gcc"):
            pytest.skip("gcc is not installed: apt-get install gcc")
        library = tmp_path / f"{name}.so"
        command = ["gcc", "-shared", "-fPIC", "-o", str(library), str(HERE / f"{name}.c")]
        subprocess.run(command, check=True)
        return str(library)

    return compiled


@pytest.fixture
def processes_below() -> Callable[[int], list[int]]:
    return descendants


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sweeps]:
    """A project for sweeps that nothing happens to, to compare with."""
    project = Sweeps(tmp_path_factory.mktemp("undisturbed"))
    yield project
    project.end()


def victims(whom: str, driver: int) -> list[int]:
    """Who is killed with a driver, which comes first."""
    if whom == "kills of the driver":
        return [driver]
    if whom == "kills of the driver and the parent of trials":
        return [driver, *descendants(driver)[:1]]
    return [driver, *descendants(driver)]


def descendants(pid: int) -> list[int]:
    """Every living process that a process has started, directly or not."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(stat.parent.name))

    def below(parent: int) -> list[int]:
        found = children.get(parent, [])
        return found + [one for child in found for one in below(child)]

    return below(pid)


def kill(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def assert_no_gap(trial: Path) -> None:
    """Each step is recorded once, and a kill had at most one step done again."""
    lines = (trial / "records.jsonl").read_text().splitlines()
    steps = [json.loads(line)["step"] for line in lines]
    assert steps == list(range(1, len(steps) + 1)), trial
    work = [0, *map(int, (trial / "work.txt").read_text().split())]
    assert {after - before for before, after in itertools.pairwise(work)} <= {0, 1}, work
    assert work[-1] == steps[-1], trial
