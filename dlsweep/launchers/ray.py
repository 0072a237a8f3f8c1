"""Runs trials on Ray: a local cluster that starts by itself, or one that is there.

Each slot is an actor with the slot's CPUs and GPUs; its process is the worker. Ray restarts and
retries nothing. On a cluster that is joined, actors are detached: they outlive the driver, and the
next driver of the same study finds them by their names.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import logging
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from dlsweep.errors import ConfigError, DeviceError, MissingExtraError
from dlsweep.launchers.base import Judge
from dlsweep.launchers.ray_actor import END, LEASE, Actor
from dlsweep.launchers.remote import RemoteLauncher
from dlsweep.launchers.seat import Seat
from dlsweep.launchers.worker import Message, Setup, facts
from dlsweep.machine.devices import cpu_count, gpu_names

# Set before Ray is imported, which reads them. A user's own values win.
os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# A trial's GPUs are set by its slot; Ray would warn that it leaves them visible.
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
try:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ModuleNotFoundError as error:
    raise MissingExtraError("ray", "launcher=ray") from error

#: The most that a pause between two looks counts, in seconds: a driver that was stopped meanwhile
#: has not looked, and that is no silence of the worker's.
_LOOK = 1.0
#: How long to wait for a cluster to answer at all, to let this user in, and for a check of a node.
_CONNECT, _ENTER, _CHECK = 5.0, 40.0, 60.0
#: Joins a cluster and leaves it. In a process of its own: Ray retries for minutes and prints logs.
_PROBE = "import ray, sys; ray.init(sys.argv[1], log_to_driver=False); ray.shutdown()"


class _RaySeat(Seat):
    """A slot with its actor."""

    def __init__(self, name: str, actor: Any, driver: str) -> None:
        super().__init__(name)
        self._actor = actor
        self._driver = driver
        self._sent = self._read = 0
        self._loss = ""
        self._ask()

    def send(self, message: Message) -> None:
        self._sent += 1
        self._actor.put.remote(self._driver, self._sent, message)

    def receive(self) -> list[Message]:
        if self._loss or not ray.wait([self.asked], timeout=0)[0]:
            self._count_silence()
            return []
        try:
            entries = ray.get(self.asked)
        except ray.exceptions.RayError as error:
            self._loss = f"The worker {self.name} is lost: {_reason(error)}"
            return []
        if entries:
            self._read = entries[-1][0]
        self._ask()
        return [message for _, message in entries]

    @property
    def can_answer(self) -> bool:
        return not self._loss

    def loss(self) -> str:
        return self._loss

    def finish(self) -> Any:
        """Asks the worker to end; returns what is ready once it has."""
        self.send({"kind": "end"})
        return self._actor.finish.remote()

    def end(self) -> None:
        with contextlib.suppress(ray.exceptions.RayError):
            ray.kill(self._actor)

    def _ask(self) -> None:
        self._silence, self._looked = 0.0, time.monotonic()
        self.asked = self._actor.take.remote(self._driver, self._read)

    def _count_silence(self) -> None:
        now = time.monotonic()
        self._silence += min(now - self._looked, _LOOK)
        self._looked = now
        if (self.is_ready or self.is_asked or self.job) and self._silence > LEASE:
            self._loss = f"The worker {self.name} has not answered for {LEASE:g} s."


class RayLauncher(RemoteLauncher):
    """Runs trials on a Ray cluster.

    Args:
        address: The cluster to join, such as ``10.0.0.1:6379`` or ``auto``; without one, that of
            the environment variable ``RAY_ADDRESS``, or a local cluster that ends with the sweep.
        slots: Trials at a time; ``auto`` is as many as fit the cluster when the sweep starts.
        cpus_per_trial: CPUs of a trial; also the number of its threads.
        gpus_per_trial: GPUs of a trial, all on one node; with a fraction, several trials share one.
        resources: Further resources of a trial by name, as in Ray.
        start: As in the local launcher.
        preload: As in the local launcher.
        env: As in the local launcher.
        patience: Seconds that trials go on without a driver, for another one to adopt them.
    """

    def __init__(
        self,
        address: str | None = None,
        slots: int | Literal["auto"] = "auto",
        cpus_per_trial: int = 1,
        gpus_per_trial: float = 0,
        resources: Mapping[str, float] = MappingProxyType({}),
        start: Literal["warm", "fresh"] = "warm",
        preload: Sequence[str] = (),
        env: Mapping[str, str] = MappingProxyType({}),
        patience: float = 600.0,
    ) -> None:
        super().__init__(cpus_per_trial, gpus_per_trial, start, preload, env, patience)
        if slots != "auto" and not (isinstance(slots, int) and slots >= 1):
            raise ConfigError(
                f"launcher.slots: Received {slots!r}. Expected auto or a whole number from 1."
            )
        self._resources = dict(resources)
        for name, amount in self._resources.items():
            if not (isinstance(amount, int | float) and amount > 0):
                raise ConfigError(
                    f"launcher.resources.{name}: Received {amount!r}. Expected a number above 0."
                )
        self._session = _connect(address)
        self._is_joined = self._session is None
        self._driver = os.urandom(8).hex()
        possible = sum(self._fitting(node["Resources"]) for node in _nodes())
        if not possible:
            raise DeviceError(self._misfit())
        self._slots = possible if slots == "auto" else slots

    @property
    def slots(self) -> int:
        """The number of actors to ask for."""
        return self._slots

    def start(self, judge: Judge, folder: Path) -> None:
        """Adopts the actors of an earlier driver of this study, and creates the others.

        Raises:
            DeviceError: If a node differs from this machine.
        """
        super().start(judge, folder)
        if self._is_joined:
            self._check_nodes()

    def close(self) -> None:
        """Ends all actors, and the cluster if it is a local one."""
        ends = [seat.finish() for seat in self._ray_seats() if seat.is_ready]
        if ends:
            ray.wait(ends, num_returns=len(ends), timeout=END)
        super().close()
        ray.shutdown()
        if self._session and not self._has_lost:
            shutil.rmtree(self._session, ignore_errors=True)  # else its logs say why

    def _find_seats(self) -> list[Seat]:
        named = ray.util.list_named_actors(all_namespaces=True) if self._is_joined else []
        names = sorted(one["name"] for one in named if one["namespace"] == self._namespace)
        actors = {name: ray.get_actor(name, namespace=self._namespace) for name in names}
        greeted: dict[Any, str] = {
            actor.greet_driver.remote(self._driver): name for name, actor in actors.items()
        }
        if not greeted:
            return []
        ready, lost = ray.wait(list(greeted), num_returns=len(greeted), timeout=LEASE)
        for one in lost:
            ray.kill(actors[greeted[one]])
        found = [greeted[one] for one in ready if _answers(one)]
        return [_RaySeat(name, actors[name], self._driver) for name in found]

    def _open_seat(self, number: int) -> Seat:
        name = f"slot-{number}-{os.urandom(4).hex()}"
        actor = (
            ray.remote(Actor)
            .options(
                num_cpus=self.cpus_per_trial,
                num_gpus=self.gpus_per_trial,
                resources=self._resources,
                max_restarts=0,
                max_task_retries=0,
                max_concurrency=8,
                name=name,
                namespace=self._namespace,
                lifetime="detached" if self._is_joined else "non_detached",
            )
            .remote(self.setup(), self._driver)
        )
        return _RaySeat(name, actor, self._driver)

    @property
    def _namespace(self) -> str:
        """The study's own namespace; two machines may have studies in folders of the same name."""
        identity = f"{self._setup.study}\0{self._setup.token}"
        return "dlsweep-" + hashlib.sha256(os.fsencode(identity)).hexdigest()[:16]

    def _rest(self, seconds: float) -> None:
        ray.wait([seat.asked for seat in self._ray_seats()], timeout=seconds)

    def _ray_seats(self) -> Iterator[_RaySeat]:
        return (seat for seat in self._seats if isinstance(seat, _RaySeat))

    def _check_nodes(self) -> None:
        """Checks every node that may run trials, before one does.

        Raises:
            DeviceError: If dlsweep is missing on a node, or the node differs from this machine.
        """
        nodes = [node for node in _nodes() if self._fitting(node["Resources"])]
        asked = [_on(node, facts, Setup(**self.setup())) for node in nodes]
        for node, about in zip(nodes, asked, strict=True):
            self.check(self._facts(node, about))

    def _facts(self, node: dict[str, Any], about: Any) -> dict[str, Any]:
        try:
            found: dict[str, Any] = ray.get(about, timeout=_CHECK)
        except ray.exceptions.RayError as error:
            raise DeviceError(self._why_unfit(node, error)) from None
        return found

    def _why_unfit(self, node: dict[str, Any], error: Exception) -> str:
        where = f"The node {node['NodeManagerAddress']}"
        try:
            ray.get(_on(node, importlib.metadata.version, "dlsweep"), timeout=_CHECK)
        except importlib.metadata.PackageNotFoundError:
            return f"{where} has no dlsweep.\nInstall it there:  pip install 'dlsweep[ray]'"
        except ray.exceptions.RayError:
            return f"{where} does not answer: {_reason(error)}"
        return f"{where} cannot run dlsweep: {_reason(error)}"

    def _wanted(self) -> dict[str, float]:
        wanted = {"CPU": self.cpus_per_trial, "GPU": self.gpus_per_trial, **self._resources}
        return {name: amount for name, amount in wanted.items() if amount}

    def _fitting(self, has: Mapping[str, float]) -> int:
        """Returns how many trials fit a node; a fraction of a GPU is one of a single GPU."""

        def count(name: str, amount: float) -> int:
            if name == "GPU" and amount < 1:
                return int(has.get(name, 0)) * int(1 / amount + 1e-9)
            return int(has.get(name, 0) / amount + 1e-9)

        return min(count(name, amount) for name, amount in self._wanted().items())

    def _misfit(self) -> str:
        wanted = ", ".join(f"{name}: {amount:g}" for name, amount in self._wanted().items())
        nodes = "\n".join(
            f"  {node['NodeManagerAddress']}: "
            + ", ".join(
                f"{name}: {amount:g}"
                for name, amount in sorted(node["Resources"].items())
                if ":" not in name and "memory" not in name
            )
            for node in _nodes()
        )
        return (
            f"launcher: No node of the cluster has what one trial needs ({wanted}). Its nodes:\n"
            f"{nodes}\nChange it with  launcher.cpus_per_trial=… launcher.gpus_per_trial=…"
        )


def _connect(address: str | None) -> Path | None:
    """Joins a cluster, or starts a local one; returns the folder of a local one's files.

    Raises:
        ConfigError: If there is no such cluster, or it refuses this user.
    """
    where = address or os.environ.get("RAY_ADDRESS") or "local"
    devices: dict[str, Any] = {}
    if where == "local":
        devices = {
            "num_cpus": cpu_count(),
            "num_gpus": len(gpu_names()),
            "include_dashboard": False,
        }
    else:
        _check_address(where)
    ray._private.worker._worker_logs_enabled = False  # it prints logs even with log_to_driver=False
    try:
        session: Any = ray.init(
            where, log_to_driver=False, logging_level=logging.CRITICAL, **devices
        )
    except (ray.exceptions.RayError, ConnectionError, RuntimeError, ValueError) as error:
        raise ConfigError(f"launcher=ray: Ray did not start at {where}: {_reason(error)}") from None
    return Path(session.address_info["session_dir"]) if where == "local" else None


def _check_address(where: str) -> None:
    """Checks that a cluster answers and lets this user in.

    Raises:
        ConfigError: If there is no such cluster, or it refuses this user.
    """
    said = f"launcher.address: Received {where!r}"
    instead = "Expected an address such as 10.0.0.1:6379. Without one, a local cluster starts."
    if "://" in where:
        raise ConfigError(f"{said}. Addresses of Ray Client do not work here.\n{instead}")
    host, _, port = where.rpartition(":")
    if where != "auto" and not (host and port.isdecimal()):
        raise ConfigError(f"{said}. {instead}")
    try:
        if where != "auto":
            socket.create_connection((host, int(port)), _CONNECT).close()
        entered = subprocess.run(  # noqa: S603
            [sys.executable, "-c", _PROBE, where],
            capture_output=True,
            text=True,
            timeout=_ENTER,
            check=False,
            env={**os.environ, "RAY_NUM_REDIS_GET_RETRIES": "3"},
        )
    except (OSError, OverflowError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"{said}, where no Ray cluster answers: {error}.\n{instead}") from None
    if entered.returncode == 0:
        return
    if "InvalidAuthToken" in entered.stderr or "AuthenticationError" in entered.stderr:
        raise ConfigError(
            f"{said}. This cluster expects a token, which is missing or another one here.\n"
            "Put the cluster's token into ~/.ray/auth_token, or into the environment variable "
            "RAY_AUTH_TOKEN."
        )
    lines = entered.stderr.strip().splitlines() or [f"exit code {entered.returncode}"]
    last = lines[-1].partition(": ")[2] or lines[-1]
    raise ConfigError(f"{said}, which cannot be joined: {last}\n{instead}")


def _nodes() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def _on(node: dict[str, Any], function: Any, *args: Any) -> Any:
    """Calls a function once on a node, beside all that runs there."""
    there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    task = ray.remote(function).options(num_cpus=0, max_retries=0, scheduling_strategy=there)
    return task.remote(*args)


def _answers(asked: Any) -> bool:
    try:
        ray.get(asked)
    except ray.exceptions.RayError:
        return False
    return True


def _reason(error: Exception) -> str:
    """Returns the sentence of an error of Ray's that says most: of a remote traceback, the last."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    if "traceback" in str(error).lower() or "File " in str(error):
        return lines[-1]
    known = (line for line in lines if line.startswith("The actor is dead because"))
    return next(known, lines[0]).partition(" Some common causes")[0]
