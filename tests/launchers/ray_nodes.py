"""A project whose sweeps run on Ray, and a cluster of two nodes."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import psutil
import pytest

#: Saves at every step, and notes what it really did.
WALK = Path(__file__).parents[1] / "faults" / "trainings" / "walk.py"
OWN = ("framework=none", "model=none", "data=none", "training=function", "tracking=csv")


class Project:
    """A user's project, whose sweeps are started, killed and looked at."""

    def __init__(self, path: Path, env: dict[str, str]) -> None:
        self.path = path
        self.env = env
        self.command = ["-m", "dlsweep"]
        self.drivers: list[subprocess.Popen[str]] = []
        path.mkdir(parents=True, exist_ok=True)
        (path / "walk.py").write_text(WALK.read_text())

    def walk(self, name: str, *arguments: str, steps: int = 5, seconds: float = 0.01) -> list[str]:
        """The arguments of a sweep of the training, with one seed."""
        return [
            *("-m", *OWN, "training._target_=walk.train", f"hydra.sweeper.study_name={name}"),
            *(f"+training.steps={steps}", f"+training.seconds={seconds}", "system_metrics=1"),
            *("+training.x=interval(-5,5)", "+training.y=interval(-5,5)"),
            *("hydra.sweeper.keep=all", *arguments),
        ]

    def start(self, *arguments: str, **env: str) -> subprocess.Popen[str]:
        driver = subprocess.Popen(
            [sys.executable, *self.command, *arguments],
            cwd=self.path,
            env={**os.environ, **self.env, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.drivers.append(driver)
        return driver

    def run(self, *arguments: str, code: int = 0, **env: str) -> str:
        driver = self.start(*arguments, **env)
        output, _ = driver.communicate()
        assert driver.returncode == code, output
        return output

    def read_until(self, driver: subprocess.Popen[str], text: str) -> str:
        """Reads a driver's output up to a line with a text."""
        assert driver.stdout
        read = ""
        for line in driver.stdout:
            read += line
            if text in line:
                return read
        raise AssertionError(f"it never said {text!r}, but:\n{read}")

    def end(self) -> None:
        for driver in self.drivers:
            if driver.poll() is None:
                kill(below(driver.pid))
                driver.kill()
            if driver.stdout and not driver.stdout.closed:
                driver.communicate()

    def trial(self, name: str, number: int = 0, outputs: str = "outputs") -> Path:
        return self.path / outputs / name / "trials" / f"{number:04d}"

    def table(self, name: str, outputs: str = "outputs") -> pd.DataFrame:
        table = pd.read_csv(self.path / outputs / name / "trials.csv")
        return table.drop(columns=["start", "duration", "folder", "reason"])


def steps_of(trial: Path) -> list[int]:
    """The steps that a trial has recorded."""
    file = trial / "records.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    return [json.loads(line)["step"] for line in lines]


def wait_for(happens: Callable[[], object], driver: subprocess.Popen[str] | None = None) -> None:
    """Waits until something happens, while a driver runs."""
    deadline = time.monotonic() + 60
    while not happens():
        if driver and driver.poll() is not None:
            raise AssertionError(f"the driver has ended:\n{driver.communicate()[0]}")
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def below(pid: int) -> list[int]:
    """All processes that a process has started, directly or not."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    return []


def kill(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def process_of(name: str, pids: list[int]) -> list[int]:
    """Those processes whose command line has a text in it."""
    found = []
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            if name in " ".join(process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(pid)
    return found


class Cluster:
    """A Ray cluster: its head here, and a node that is far, in a network of its own.

    The far node does not see the folders below ``hidden`` that the driver sees: it has its own.
    """

    def __init__(self, folder: Path) -> None:
        if not shutil.which("ip") or os.geteuid():
            pytest.skip(
                "a node in a network of its own needs root and ip: apt-get install iproute2"
            )
        self.folder = folder
        self.hidden = folder / "hidden"
        self.hidden.mkdir()
        self.space = f"dlsweep{os.getpid()}"
        number = os.getpid() % 250
        self.link, self.near, self.far = (
            f"dl{os.getpid()}",
            f"10.78.{number}.1",
            f"10.78.{number}.2",
        )
        self.env = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        self._processes: list[subprocess.Popen[bytes]] = []
        with socket.socket() as free:
            free.bind(("", 0))
            self.port = free.getsockname()[1]

    def start(self) -> None:
        self._lay_cable()
        here = ["--head", f"--port={self.port}", "--num-cpus=2", '--resources={"near": 2}']
        temp = ["--include-dashboard=false", f"--temp-dir={self.folder / 'r'}"]
        self._ray([], *here, *temp)
        wait_for(lambda: self._head_ip() is not None)
        self.address = f"{self._head_ip()}:{self.port}"
        self.start_far()

    def start_far(self) -> None:
        there = f'mount -t tmpfs none {self.hidden}; exec "$@"'
        inside = ["ip", "netns", "exec", self.space, "sh", "-c", there, "sh"]
        node = [f"--address={self.address}", f"--node-ip-address={self.far}", "--num-cpus=2"]
        self.node = self._ray(inside, *node, '--resources={"far": 2}')
        wait_for(lambda: "Ray runtime started" in self._log(self.node))

    def cut(self) -> None:
        subprocess.run(["ip", "link", "set", self.link, "down"], check=True)

    def mend(self) -> None:
        subprocess.run(["ip", "link", "set", self.link, "up"], check=True)

    @contextlib.contextmanager
    def mounted(self, what: Path, over: Path) -> Iterator[None]:
        """Shows the far node something else in a place."""
        raylet = self.far_processes("raylet/raylet")[0]
        inside = ["nsenter", "-m", "-t", str(raylet)]
        subprocess.run([*inside, "mount", "--bind", str(what), str(over)], check=True)
        try:
            yield
        finally:
            subprocess.run([*inside, "umount", "-l", str(over)], check=True)

    def far_processes(self, name: str) -> list[int]:
        listed = subprocess.run(
            ["ip", "netns", "pids", self.space], capture_output=True, text=True, check=True
        )
        return process_of(name, [int(pid) for pid in listed.stdout.split()])

    def end(self) -> None:
        for process in self._processes:
            kill([*below(process.pid), process.pid])
            process.wait()
        listed = subprocess.run(["ip", "netns", "pids", self.space], capture_output=True, text=True)
        kill([int(pid) for pid in listed.stdout.split()])
        subprocess.run(["ip", "netns", "del", self.space], check=False)
        subprocess.run(["ip", "link", "del", self.link], check=False, capture_output=True)

    def _lay_cable(self) -> None:
        inside = f"ip -n {self.space}"
        for command in (
            f"ip netns add {self.space}",
            f"ip link add {self.link} type veth peer name inside netns {self.space}",
            f"ip addr add {self.near}/24 dev {self.link}",
            f"ip link set {self.link} up",
            f"{inside} addr add {self.far}/24 dev inside",
            f"{inside} link set inside up",
            f"{inside} link set lo up",
            f"{inside} route add default via {self.near}",
        ):
            done = subprocess.run(command.split(), capture_output=True, text=True)
            if done.returncode:
                pytest.skip(f"{command}: {done.stderr}")

    def _ray(self, under: list[str], *arguments: str) -> subprocess.Popen[bytes]:
        script = Path(sys.executable).with_name("ray")
        memory = ["--object-store-memory=100000000", "--disable-usage-stats", "--block"]
        with (self.folder / f"ray-{len(self._processes)}.log").open("wb") as log:
            process = subprocess.Popen(
                [*under, str(script), "start", *arguments, *memory],
                env={**os.environ, **self.env},
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._processes.append(process)
        return process

    def _log(self, process: subprocess.Popen[bytes]) -> str:
        return (self.folder / f"ray-{self._processes.index(process)}.log").read_text()

    def _head_ip(self) -> str | None:
        text = self._log(self._processes[0])
        found = re.search(
            r"Local node IP: \D*(\d+\.\d+\.\d+\.\d+)", re.sub(r"\x1b\[\d*m", "", text)
        )
        return found[1] if found and "Ray runtime started" in text else None
