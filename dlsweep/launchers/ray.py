"""Runs trials on Ray: a local cluster that starts by itself, or one that is there.

Each slot is an actor with the slot's CPUs and GPUs; its process is the worker. Ray restarts and
retries nothing. On a cluster that is joined, actors are detached: they outlive the driver, and the
next driver of the same study finds them by their names.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import queue
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from dlsweep.errors import ConfigError, DeviceError, MissingExtraError
from dlsweep.launchers.base import Judge
from dlsweep.launchers.remote import RemoteLauncher, Seat
from dlsweep.launchers.worker import Message, Post, Setup, Worker
from dlsweep.machine.devices import cpu_count, gpu_names

# Set before Ray is imported, which reads them. A user's own values win.
os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
try:
    import ray
except ModuleNotFoundError as error:
    raise MissingExtraError("ray", "launcher=ray") from error

#: How long a call of the worker waits for its messages, in seconds.
_POLL = 2.0
#: A worker that has not answered for so long is lost, in seconds: its node or its network is gone.
_LEASE = 15.0


class _ActorPost(Post):
    """Carries messages through the calls of an actor; the driver acknowledges what it has read."""

    def __init__(self) -> None:
        self._inbox: queue.Queue[Message] = queue.Queue()
        self._outbox: list[tuple[int, Message]] = []
        self._count = 0
        self._new = threading.Condition()
        self._heard = time.monotonic()

    def send(self, message: Message) -> None:
        with self._new:
            self._count += 1
            self._outbox.append((self._count, message))
            self._new.notify_all()

    def receive(self, seconds: float) -> list[Message]:
        messages = []
        with contextlib.suppress(queue.Empty):
            messages.append(self._inbox.get(timeout=seconds) if seconds else self._next())
            while True:
                messages.append(self._next())
        return messages

    @property
    def silence(self) -> float:
        return time.monotonic() - self._heard

    def put(self, message: Message) -> None:
        """Takes a message of the driver."""
        self._inbox.put(message)

    def take(self, after: int) -> list[tuple[int, Message]]:
        """Waits a moment for messages to the driver, which has read those up to ``after``."""
        with self._new:
            self._heard = time.monotonic()
            self._outbox = [entry for entry in self._outbox if entry[0] > after]
            self._new.wait_for(lambda: self._outbox, _POLL)
            self._heard = time.monotonic()
            return list(self._outbox)

    def _next(self) -> Message:
        return self._inbox.get_nowait()


class _Actor:
    """A slot's process on Ray."""

    def __init__(self, setup: dict[str, Any]) -> None:
        self._post = _ActorPost()
        worker = Worker(Setup(**setup), self._post)
        threading.Thread(target=self._serve, args=(worker,), daemon=True).start()

    def put(self, message: Message) -> None:
        self._post.put(message)

    def take(self, after: int) -> list[tuple[int, Message]]:
        return self._post.take(after)

    def _serve(self, worker: Worker) -> None:
        worker.serve()
        if self._post.silence > _LEASE:  # no driver will end this actor
            os._exit(0)


class _RaySeat(Seat):
    """A slot with its actor."""

    def __init__(self, name: str, actor: Any) -> None:
        super().__init__(name)
        self._actor = actor
        self._read = 0
        self._loss = ""
        self._ask()

    def send(self, message: Message) -> None:
        self._actor.put.remote(message)

    def receive(self) -> list[Message]:
        if self._loss or not ray.wait([self.asked], timeout=0)[0]:
            if self.is_ready and time.monotonic() - self._since > _LEASE:
                self._loss = f"The worker {self.name} has not answered for {_LEASE:g} s."
            return []
        try:
            entries = ray.get(self.asked)
        except ray.exceptions.RayError as error:
            first = str(error).strip().splitlines()[0]
            self._loss = f"The worker {self.name} is lost: {first}"
            return []
        if entries:
            self._read = entries[-1][0]
        self._ask()
        return [message for _, message in entries]

    def loss(self) -> str:
        return self._loss

    def end(self) -> None:
        with contextlib.suppress(ray.exceptions.RayError):
            ray.kill(self._actor)

    def _ask(self) -> None:
        self._since = time.monotonic()
        self.asked = self._actor.take.remote(self._read)


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
        self._is_joined = _connect(address)
        possible = sum(self._fitting(node["Resources"]) for node in _nodes())
        if not possible:
            raise DeviceError(self._misfit())
        self._slots = possible if slots == "auto" else slots

    @property
    def slots(self) -> int:
        """The number of actors to ask for."""
        return self._slots

    def close(self) -> None:
        """Ends all actors, and the cluster if it is a local one."""
        super().close()
        ray.shutdown()

    def _find_seats(self) -> list[Seat]:
        space = self._namespace
        names = ray.util.list_named_actors(all_namespaces=True) if self._is_joined else []
        mine = sorted(entry["name"] for entry in names if entry["namespace"] == space)
        return [_RaySeat(name, ray.get_actor(name, namespace=space)) for name in mine]

    def _open_seat(self, number: int) -> Seat:
        name = f"slot-{number}-{os.urandom(4).hex()}"
        actor = (
            ray.remote(_Actor)
            .options(
                num_cpus=self.cpus_per_trial,
                num_gpus=self.gpus_per_trial,
                resources=self._resources,
                max_restarts=0,
                max_task_retries=0,
                max_concurrency=4,
                name=name,
                namespace=self._namespace,
                lifetime="detached" if self._is_joined else "non_detached",
            )
            .remote(self.setup())
        )
        return _RaySeat(name, actor)

    def start(self, judge: Judge, folder: Path) -> None:
        """Adopts the actors of an earlier driver of this study, and creates the others."""
        self._namespace = "dlsweep-" + hashlib.sha256(bytes(folder)).hexdigest()[:16]
        super().start(judge, folder)

    def _rest(self, seconds: float) -> None:
        ray.wait([seat.asked for seat in self._ray_seats()], timeout=seconds)

    def _ray_seats(self) -> Iterator[_RaySeat]:
        return (seat for seat in self._seats if isinstance(seat, _RaySeat))

    def _wanted(self) -> dict[str, float]:
        wanted = {"CPU": self.cpus_per_trial, "GPU": self.gpus_per_trial, **self._resources}
        return {name: amount for name, amount in wanted.items() if amount}

    def _fitting(self, has: Mapping[str, float]) -> int:
        return min(int(has.get(name, 0) / amount) for name, amount in self._wanted().items())

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


def _connect(address: str | None) -> bool:
    """Joins a cluster, or starts a local one; returns whether it was joined.

    Raises:
        ConfigError: If there is no such cluster, or it refuses this user.
    """
    where = address or os.environ.get("RAY_ADDRESS") or "local"
    devices: dict[str, Any] = {}
    if where == "local":
        devices = {"num_cpus": cpu_count(), "num_gpus": len(gpu_names())}
    try:
        ray.init(
            where,
            include_dashboard=False if where == "local" else None,
            log_to_driver=False,
            logging_level=logging.ERROR,
            **devices,
        )
    except ray.exceptions.AuthenticationError as error:
        raise ConfigError(
            f"launcher.address: The Ray cluster {where} refused this user: "
            f"{str(error).splitlines()[0]}\nPut its token into ~/.ray/auth_token, "
            "or into the environment variable RAY_AUTH_TOKEN."
        ) from None
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"launcher.address: Received {where!r}, where no Ray cluster answers: "
            f"{str(error).strip().splitlines()[0]}\n"
            "Expected an address such as 10.0.0.1:6379. Without it, a local cluster starts."
        ) from None
    return where != "local"


def _nodes() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
