"""Connects the processes of a run that trains on several nodes of a cluster.

The first node's process listens on a port, and writes the port and a new key to a file in the run
folder, in a part of it that only its user can read. A process on another node connects once for
itself and once for each of its ranks. Both sides prove that they know the key; what they send
afterwards is JSON.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
import secrets
import socket
import struct
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from dlsweep.errors import DeviceError
from dlsweep.folders.reading import read_json
from dlsweep.folders.rundir import write_atomically

#: The environment variable with the number of a process's node, from 1; the first node has none.
NODE_VARIABLE = "DLSWEEP_NODE"
_FILE = "nodes.json"
#: How long nodes wait for each other, how long a proof may take, and between two looks; seconds.
_PATIENCE, _PROOF, _LOOK_EVERY = 120.0, 5.0, 0.05
_NONCE = 32
#: Linux's request for the address of a network interface, and where the answer has it.
_SIOCGIFADDR, _ADDRESS = 0x8915, slice(20, 24)


@dataclass
class Links:
    """A node's connections to the others.

    Attributes:
        interface: The network interface that leads to them.
        nodes: To the process that watches the ranks of each other node, by its number; from
            another node, only to that of the first.
        ranks: To the ranks elsewhere, by their order; from another node, of each rank to rank 0.
    """

    interface: str = "lo"
    nodes: dict[int, Connection] = field(default_factory=dict)
    ranks: list[Connection] = field(default_factory=list)


def node_number() -> int:
    """Returns the number of this process's node within its trial; 0 is the first."""
    return int(os.environ.get(NODE_VARIABLE, 0))


def gather(folder: Path, attempt: int, count: int, local_size: int) -> Links:
    """Waits on the first node until all others are connected.

    Args:
        folder: A folder that all nodes see.
        attempt: The number of the run's attempt.
        count: The number of nodes.
        local_size: The number of ranks on each node.

    Raises:
        DeviceError: If a node does not come in time, or has another number of ranks.
    """
    key = secrets.token_bytes(_NONCE)
    found: dict[tuple[int, int], Connection] = {}
    links = Links()
    until = time.monotonic() + _PATIENCE
    with socket.create_server(("", 0), backlog=count * (local_size + 1)) as server:
        told = {"host": socket.gethostname(), "port": server.getsockname()[1], "key": key.hex()}
        write_atomically(folder / _FILE, json.dumps({**told, "attempt": attempt}))
        while len(found) < (count - 1) * (local_size + 1):
            connection, said = _accept(server, key, until, found)
            if said["local_size"] != local_size:
                raise DeviceError(
                    f"launcher.nodes_per_trial: {said['host']} starts {said['local_size']} "
                    f"processes, and {told['host']} {local_size}. Expected nodes with the same "
                    "number of GPUs."
                )
            links.interface = _interface(connection)
            found[said["node"], said["place"]] = connection
    (folder / _FILE).unlink()
    for (node, place), connection in sorted(found.items()):
        if place < 0:
            links.nodes[node] = connection
        else:
            links.ranks.append(connection)
    return links


def join(folder: Path, attempt: int, node: int, local_size: int) -> Links:
    """Connects another node to the first; see :func:`gather`.

    Raises:
        DeviceError: If the first node does not listen in time.
    """
    until = time.monotonic() + _PATIENCE
    while True:
        with suppress(OSError):  # not written yet, or of a killed attempt
            told = read_json(folder / _FILE)
            if told["attempt"] == attempt:
                return _connected(told, node, local_size)
        if time.monotonic() > until:
            raise DeviceError(
                f"Node {node} of the trial has found no first node for {_PATIENCE:g} s."
            )
        time.sleep(_LOOK_EVERY)


def _connected(told: dict[str, Any], node: int, local_size: int) -> Links:
    links = Links()
    for place in range(-1, local_size):
        said = {
            "node": node,
            "place": place,
            "local_size": local_size,
            "host": socket.gethostname(),
        }
        wire = socket.create_connection((told["host"], told["port"]), timeout=_PROOF)
        try:
            _prove(wire, bytes.fromhex(told["key"]), ("join", "lead"))
        except OSError:
            wire.close()
            raise
        connection = _connection(wire)
        connection.send_bytes(json.dumps(said).encode())
        links.interface = _interface(connection)
        if place < 0:
            links.nodes[0] = connection
        else:
            links.ranks.append(connection)
    return links


def _accept(
    server: socket.socket, key: bytes, until: float, found: dict[tuple[int, int], Connection]
) -> tuple[Connection, dict[str, Any]]:
    while True:
        server.settimeout(max(0.01, until - time.monotonic()))
        try:
            wire, (host, *_) = server.accept()
        except TimeoutError:
            there = sorted({node for node, _ in found})
            raise DeviceError(
                f"launcher.nodes_per_trial: After {_PATIENCE:g} s only the nodes {[0, *there]} of "
                "the trial are connected. Expected nodes that reach each other by host name."
            ) from None
        wire.settimeout(_PROOF)
        try:
            _prove(wire, key, ("lead", "join"))
        except OSError as error:
            wire.close()
            print(f"Refused a connection from {host}: {error}", file=sys.stderr)
            continue
        connection = _connection(wire)
        return connection, json.loads(connection.recv_bytes())


def _prove(wire: socket.socket, key: bytes, roles: tuple[str, str]) -> None:
    """Proves to the other side that this one knows the key, and has it prove the same.

    Args:
        wire: A connection with a timeout.
        key: The key.
        roles: What this side is, and the other; a proof of one is not one of the other.

    Raises:
        OSError: If the other side does not know the key, or says nothing.
    """
    mine = os.urandom(_NONCE)
    wire.sendall(mine)
    theirs = _read(wire, _NONCE)
    wire.sendall(_proof(key, roles[0], theirs, mine))
    given = _read(wire, hashlib.sha256().digest_size)
    if not hmac.compare_digest(given, _proof(key, roles[1], mine, theirs)):
        raise ConnectionRefusedError("it does not know the key of this run")


def _proof(key: bytes, role: str, asked: bytes, own: bytes) -> bytes:
    return hmac.digest(key, role.encode() + asked + own, "sha256")


def _read(wire: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        if not (more := wire.recv(count - len(found))):
            raise ConnectionResetError("it has hung up")
        found += more
    return found


def _connection(wire: socket.socket) -> Connection:
    """Returns a connection without a timeout, which notices when the other host is gone."""
    wire.settimeout(None)
    wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return Connection(wire.detach())


def _interface(connection: Connection) -> str:
    """Returns the name of the network interface that a connection uses; Linux only."""
    with socket.socket(fileno=os.dup(connection.fileno())) as wire:
        address = wire.getsockname()[0].removeprefix("::ffff:")
        if address.startswith("127."):
            return "lo"
        for _, name in socket.if_nameindex():
            with suppress(OSError):  # it has no address
                asked = struct.pack("256s", name.encode()[:15])
                found = fcntl.ioctl(wire.fileno(), _SIOCGIFADDR, asked)
                if socket.inet_ntoa(found[_ADDRESS]) == address:
                    return name
    raise DeviceError(f"No network interface of {socket.gethostname()} has the address {address}.")
