"""A private Slurm cluster of two nodes, all of it on this machine."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest

_HERE = Path(__file__).parent
_WALK = "faults/trainings/walk.py"
_DAEMONS = ("munged", "slurmctld", "slurmd")
_CONFIG = """\
ClusterName=sweeps
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# Slurm waits with a requeue until the job's credential has expired.
AuthInfo=socket={root}/munge.socket,cred_expire=6
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
GresTypes=gpu
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=1,batch_sched_delay=0,sched_min_interval=0
SlurmctldParameters=preempt_send_user_signal
SlurmdParameters=config_overrides
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
KillWait=5
ReturnToService=2
SlurmctldTimeout=10
SlurmdTimeout=6
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool-%n
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd-%n.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd-%n.log
PartitionName=gpu Nodes=n[1-2] Default=YES MaxTime=2-0 State=UP PriorityTier=1 GraceTime=20
PartitionName=urgent Nodes=n[1-2] MaxTime=2-0 State=UP PriorityTier=9 PreemptMode=OFF
"""
_NODE = (
    "NodeName=n{number} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=2 Boards=1 "
    "SocketsPerBoard=1 CoresPerSocket=2 ThreadsPerCore=1 RealMemory=4000 Gres=gpu:2 State=UNKNOWN\n"
)


class Slurm:
    """The cluster; its daemons are known by their pid files only."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.config = root / "slurm.conf"
        host = socket.gethostname().partition(".")[0]
        ports = _free_ports(3)
        nodes = [_NODE.format(number=n, host=host, port=ports[n]) for n in (1, 2)]
        self.config.write_text("".join(nodes) + _CONFIG.format(host=host, port=ports[0], root=root))
        for name in ("gpu0", "gpu1"):  # as /dev/null
            os.mknod(root / name, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        (root / "gres.conf").write_text(f"Name=gpu File={root}/gpu[0-1]\n")
        (root / "munge.key").write_bytes(secrets.token_bytes(1024))
        (root / "munge.key").chmod(0o600)
        for name in ("state", "spool-n1", "spool-n2"):
            (root / name).mkdir()

    def begin(self) -> None:
        files = {
            "key-file": "munge.key",
            "socket": "munge.socket",
            "pid-file": "munged.pid",
            "log-file": "munged.log",
            "seed-file": "munged.seed",
        }
        options = [f"--{name}={self.root / file}" for name, file in files.items()]
        subprocess.run(["munged", "--force", *options], check=True)
        self.start_controller("-c")
        self.start_node(1)
        self.start_node(2)
        self.wait_until(lambda: self.ask("sinfo", "-h", "-N", "-o%T").split() == ["idle"] * 4)

    def start_controller(self, *options: str) -> None:
        subprocess.run(["slurmctld", *options, "-f", self.config], check=True)

    def end_controller(self) -> None:
        self._kill(self.root / "slurmctld.pid", signal.SIGTERM)

    def start_node(self, number: int, *around: str) -> None:
        """Starts a node's daemon, in the environment that a command makes."""
        command = [*around, "slurmd", "-N", f"n{number}", "-f", str(self.config)]
        subprocess.run(command, check=True)

    def end_node(self, number: int) -> None:
        self._kill(self.root / f"slurmd-n{number}.pid", signal.SIGTERM)

    def kill_node(self, number: int) -> None:
        """Kills a node's daemon; its jobs run on."""
        self._kill(self.root / f"slurmd-n{number}.pid", signal.SIGKILL)

    def lose_node(self, number: int) -> None:
        """Kills a node's daemon and everything below its jobs, as when the machine fails."""
        self.kill_node(number)
        for pid in self._pids_of_node(number):
            _kill(pid, signal.SIGKILL)

    def ask(self, *command: str) -> str:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    def jobs(self, columns: str = "%i") -> list[str]:
        """This cluster's jobs that have not ended."""
        return self.ask("squeue", "-h", "-o", columns).splitlines()

    def wait_until(self, is_so: Callable[[], bool], seconds: float = 60) -> None:
        until = time.monotonic() + seconds
        while not is_so():
            assert time.monotonic() < until, self.ask("scontrol", "show", "job")
            time.sleep(0.05)

    def cancel_all(self) -> None:
        subprocess.run(["scancel", "--user=root"], check=True)
        self.wait_until(lambda: not self.jobs())

    def end(self) -> None:
        pid_files = [self.root / f"{name}.pid" for name in ("slurmd-n1", "slurmd-n2")]
        for file in [*pid_files, self.root / "slurmctld.pid", self.root / "munged.pid"]:
            self._kill(file, signal.SIGKILL)  # nothing of it is kept

    def tasks_of_node(self, number: int) -> list[int]:
        """The processes that Slurm has started there for a job, without its own."""
        told = {pid: Path(f"/proc/{pid}/cmdline") for pid in self._pids_of_node(number)}
        return [
            pid for pid, line in told.items() if line.exists() and b"submitit" in line.read_bytes()
        ]

    def _pids_of_node(self, number: int) -> list[int]:
        """The processes whose environment names the node, and the daemons above them."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                told = (folder / "environ").read_bytes() + (folder / "cmdline").read_bytes()
            except OSError:
                continue  # it has ended
            names = f"SLURMD_NODENAME=n{number}\0".encode()
            if names in told and str(self.config).encode() in told:
                found.append(int(folder.name))
        return found

    def _kill(self, file: Path, number: int) -> None:
        if not file.exists():
            return
        pid = int(file.read_text())
        _kill(pid, number)
        self.wait_until(lambda: not Path(f"/proc/{pid}").exists())


def _kill(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    """A cluster of two nodes with two cores each, and the partitions ``gpu`` and ``urgent``."""
    if not all(shutil.which(name) for name in _DAEMONS) or os.getuid() != 0:
        pytest.skip("as root: apt-get install --no-install-recommends slurm-wlm munge")
    cluster = Slurm(tmp_path_factory.mktemp("slurm"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(cluster.config))
        try:
            cluster.begin()
            yield cluster
            cluster.cancel_all()
        finally:
            cluster.end()


class Project:
    """A user's project with trainings of its own, whose sweeps run on the cluster."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.drivers: list[subprocess.Popen[str]] = []
        for module in (*_HERE.glob("trainings/*.py"), _HERE.parents[1] / _WALK):
            (path / module.name).write_text(module.read_text())

    def start(
        self, *arguments: str, experiment: str = "quadratic", **env: str
    ) -> subprocess.Popen[str]:
        chosen = [f"+experiment={experiment}"] if experiment else []
        driver = subprocess.Popen(
            [sys.executable, "-m", "dlsweep", *chosen, "tracking=none", *arguments],
            cwd=self.path,
            env={**os.environ, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.drivers.append(driver)
        return driver

    def run(self, *arguments: str, code: int = 0, experiment: str = "quadratic", **env: str) -> str:
        return self.end_of(self.start(*arguments, experiment=experiment, **env), code)

    def end_of(self, driver: subprocess.Popen[str], code: int = 0) -> str:
        output, _ = driver.communicate()
        assert driver.returncode == code, output
        assert "Traceback" not in output
        return output

    def study(self, name: str = "quadratic") -> Path:
        return self.path / "outputs" / name

    def trials(self, name: str = "quadratic") -> list[Path]:
        return sorted((self.study(name) / "trials").iterdir())

    def table(self, name: str = "quadratic") -> pd.DataFrame:
        return pd.read_csv(self.study(name) / "trials.csv")

    def attempts(self, trial: Path) -> int:
        return json.loads((trial / "attempt.json").read_text())["attempt"]

    def is_training(self, step: int = 1) -> bool:
        """Whether all trials that have begun have done that step."""
        works = [trial / "work.txt" for trial in self.study().glob("trials/*")]
        done = [work.read_text().split() if work.exists() else [] for work in works]
        return bool(done) and all(len(steps) >= step for steps in done)

    def training(self) -> list[int]:
        """The processes that hold the lock of a trial."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has ended
                files = [Path(os.path.realpath(file)) for file in (process / "fd").iterdir()]
                if any(f.name == "lock" and self.study() / "trials" in f.parents for f in files):
                    found.append(int(process.name))
        return sorted(found)

    def training_in_job(self, job: str) -> int:
        """The process that holds the lock of the trial of a job."""
        told = f"SLURM_JOB_ID={job}\0".encode()
        for process in self.training():
            with contextlib.suppress(OSError):  # it has ended
                if told in Path(f"/proc/{process}/environ").read_bytes():
                    return process
        raise AssertionError(f"job {job} trains nothing")

    def assert_exactly_once(self, count: int) -> None:
        """Each trial has each step once, and a kill had at most one step done again."""
        table = self.table()
        assert list(table["number"]) == list(range(count))
        assert set(table["state"]) == {"completed"}, table
        for trial in self.trials():
            lines = (trial / "records.jsonl").read_text().splitlines()
            steps = [json.loads(line)["step"] for line in lines]
            assert steps == list(range(1, len(steps) + 1)), trial
            work = [0, *map(int, (trial / "work.txt").read_text().split())]
            assert {b - a for a, b in itertools.pairwise(work)} <= {0, 1}, work
        assert not self.training()
        assert not (self.study() / "workers").exists()

    def end(self) -> None:
        for driver in self.drivers:
            if driver.poll() is None:
                driver.kill()
            if driver.stdout:
                driver.stdout.close()
            driver.wait()


@pytest.fixture
def project(slurm: Slurm, tmp_path: Path) -> Iterator[Project]:
    """A project; its jobs are gone when the test ends."""
    made = Project(tmp_path)
    yield made
    made.end()
    slurm.cancel_all()
