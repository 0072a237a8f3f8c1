"""Times ``python -m dlsweep serve`` against ``mlflow models serve``, on one ONNX model.

The model is a small MLP of raw digits. Clients that keep their connection open send digits as JSON,
one at a time or 32, to both servers in turn, each with one process. The clients need a part of the
same cores. Prints requests a second and the ratio; it should be at least 5.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import onnx
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec
from onnx import TensorProto, helper, numpy_helper

CLIENTS, SECONDS, ROUNDS, BAR = 8, 4.0, 3, 5.0
OURS, THEIRS = "dlsweep serve", "mlflow models serve"


def make_model() -> onnx.ModelProto:
    random = np.random.default_rng(0)
    first, second = (random.normal(size=size).astype("f") for size in ((784, 128), (128, 10)))
    nodes = [
        helper.make_node("Cast", ["pixels"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["floats"], ["flat"]),
        helper.make_node("MatMul", ["flat", "first"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["active"]),
        helper.make_node("MatMul", ["active", "second"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "mlp",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["batch", 28, 28])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(first, "first"), numpy_helper.from_array(second, "second")],
    )
    opsets = [helper.make_opsetid("", 20)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


@contextlib.contextmanager
def running(command: list[str], port: int, log: Path) -> Iterator[int]:
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while not answers(port):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield port
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def rate(port: int, path: str, body: bytes) -> float:
    """Returns the answers a second that the clients got together.

    They write to sockets themselves: an HTTP library would need more of the cores than the servers.
    """
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    counts = [0] * CLIENTS
    start = time.monotonic()

    def ask(number: int) -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
            while time.monotonic() < start + SECONDS:
                client.sendall(request)
                answer = read(client)
                assert answer.startswith(b"HTTP/1.1 200"), answer
                counts[number] += 1

    clients = [threading.Thread(target=ask, args=(number,)) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    return sum(counts) / (time.monotonic() - start)


def read(client: socket.socket) -> bytes:
    answer = b""
    while (end := answer.find(b"\r\n\r\n")) < 0:
        answer += client.recv(65536)
    length = re.search(rb"(?i)content-length: (\d+)", answer[:end])
    assert length, answer
    while len(answer) < end + 4 + int(length[1]):
        answer += client.recv(65536)
    return answer


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = make_model()
        (folder / "mlp" / "onnx" / "1").mkdir(parents=True)
        onnx.save(model, folder / "mlp" / "onnx" / "1" / "model.onnx")
        signature = ModelSignature(
            Schema([TensorSpec(np.dtype("uint8"), (-1, 28, 28), "pixels")]),
            Schema([TensorSpec(np.dtype("float32"), (-1, 10), "scores")]),
        )
        mlflow.onnx.save_model(model, str(folder / "mlflow"), signature=signature)
        python = [sys.executable, "-m"]
        ours = [*python, "dlsweep", "serve", str(folder / "mlp" / "onnx"), "--port", "8591"]
        theirs = [*python, "mlflow", "models", "serve", "-m", str(folder / "mlflow")]
        theirs += ["--env-manager", "local", "--port", "8592"]
        with (
            running(ours, 8591, folder / "ours.txt"),
            running(theirs, 8592, folder / "theirs.txt"),
        ):
            for batch in (1, 32):
                compare(batch)


def compare(batch: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (batch, 28, 28)).tolist()
    body = json.dumps({"inputs": {"pixels": pixels}}).encode()
    places = {OURS: (8591, "/v1/models/mlp:predict"), THEIRS: (8592, "/invocations")}
    rates: dict[str, list[float]] = {name: [] for name in places}
    for number in range(ROUNDS):
        for name in places if number % 2 else reversed(places):
            rates[name].append(rate(*places[name], body))
    ours, theirs = (statistics.median(rates[name]) for name in places)
    print(f"batch {batch:<3} {OURS} {ours:.0f}/s   {THEIRS} {theirs:.0f}/s")
    print(f"ratio {ours / theirs:.1f}   (bar {BAR:g})", flush=True)


if __name__ == "__main__":
    main()
