"""The server's process: its limits, many clients at once, its stop, why it does not start."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests

from dlsweep.cli.main import main

pytestmark = pytest.mark.slow

PATH = "/v1/models/digits:predict"
#: Clients at once, and for how long they ask.
CLIENTS, SECONDS = 200, 3


def test_a_body_over_the_limit_is_refused_also_in_chunks(serve, exports, digits) -> None:
    image = json.dumps({"instances": digits.images[:1].tolist()}).encode()
    limit = 2**20

    def chunks(size: int) -> Iterator[bytes]:
        yield image
        for start in range(len(image), size, 4096):
            yield b" " * min(4096, size - start)

    with serve(exports / "digits" / "onnx", "--max-body-mb", "1") as server:
        address = server.address + PATH
        for size, status in ((limit, 200), (limit + 1, 413), (8 * limit, 413)):
            for body in (b"".join(chunks(size)), chunks(size)):
                answer = requests.post(address, data=body, timeout=60)
                assert answer.status_code == status
                if status == 413:
                    assert "longer than 1048576 bytes" in answer.json()["error"]
        length = {"Content-Length": "9" * 19}
        request = requests.Request("POST", address, headers=length).prepare()
        request.headers.update(length)
        assert requests.Session().send(request, timeout=60).status_code == 413
        assert requests.post(address, data=image, timeout=60).status_code == 200


def test_two_hundred_clients_at_once_lose_nothing(digits_server, digits) -> None:
    """Each asks for its own digits, so an answer to somebody else's would be seen."""
    bodies = [json.dumps({"instances": one[None].tolist()}) for one in digits.images[:1000]]
    best = digits.scores[:1000].argmax(axis=1)
    end = time.monotonic() + SECONDS
    answered = [0] * CLIENTS

    async def ask(client: httpx.AsyncClient, number: int) -> None:
        index = number
        while time.monotonic() < end or not answered[number]:
            answer = await client.post(digits_server.address + PATH, content=bodies[index])
            assert answer.status_code == 200, answer.text
            [scores] = answer.json()["predictions"]
            assert scores.index(max(scores)) == best[index]
            answered[number] += 1
            index = (index + CLIENTS) % len(bodies)

    async def all_of_them() -> None:
        limits = httpx.Limits(max_connections=CLIENTS)
        async with httpx.AsyncClient(limits=limits, timeout=60) as client:
            await asyncio.gather(*(ask(client, number) for number in range(CLIENTS)))

    asyncio.run(all_of_them())
    assert all(answered)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_answers_what_is_in_flight_and_takes_nothing_new(serve, exports, digits, number):
    body = json.dumps({"instances": digits.images[:1].tolist()}).encode()
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
    with serve(exports / "digits" / "onnx") as server:
        host, port = server.address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=60) as client:
            client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode())
            assert b"100 Continue" in client.recv(1000), "the request is not in flight"
            server.process.send_signal(number)
            while is_open(host, int(port)):
                time.sleep(0.05)
            client.sendall(body)
            answer = b"".join(iter(lambda: client.recv(4096), b""))
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert len(json.loads(answer.partition(b"\r\n\r\n")[2])["predictions"][0]) == 10
        _, errors = server.process.communicate(timeout=60)
        assert (server.process.returncode, errors) == (0, "")


def is_open(host: str, port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0


def test_it_says_what_it_serves_and_listens_on_this_machine_only(serve, exports) -> None:
    with serve(exports / "digits" / "onnx" / "9", "--name", "mi_modelo") as server:
        pattern = r"mi_modelo, version 9:  http://127\.0\.0\.1:\d+/v1/models/mi_modelo:predict\n"
        assert re.fullmatch(pattern, server.said)
        status = requests.get(f"{server.address}/v1/models/mi_modelo", timeout=60).json()
        assert [one["version"] for one in status["model_version_status"]] == ["9"]


def test_a_client_that_goes_away_leaves_no_trace(serve, exports: Path) -> None:
    with serve(exports / "digits" / "onnx") as server:
        host, port = server.address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=60) as client:
            client.sendall(f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n".encode())
        assert requests.get(f"{server.address}/health", timeout=60).status_code == 200
        server.process.terminate()
        assert server.process.communicate(timeout=60)[1] == ""


def test_a_name_may_have_spaces(serve, exports: Path) -> None:
    with serve(exports / "digits" / "onnx", "--name", "mi modelo") as server:
        assert server.said.endswith("/v1/models/mi%20modelo:predict\n")
        assert requests.get(f"{server.address}/v1/models/mi modelo", timeout=60).status_code == 200


def save_functions(folder: Path, spec: Any, **signatures: Callable[..., Any]) -> Path:
    import tensorflow as tf

    module = tf.Module()
    traced = {
        name: tf.function(function, input_signature=[spec]) for name, function in signatures.items()
    }
    tf.saved_model.save(module, str(folder / "1"), traced)
    return folder


def test_what_a_model_of_ones_own_may_do(serve, tmp_path: Path) -> None:
    """One of its signatures has outputs without rows; one reads a file that is not here."""
    import tensorflow as tf

    def total(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"total": tf.reduce_sum(x), "each": x}

    def lost(x: tf.Tensor) -> dict[str, tf.Tensor]:
        offset = tf.strings.to_number(tf.io.read_file(str(tmp_path / "offset.txt")), tf.float64)
        return {"scores": x + offset}

    spec = tf.TensorSpec([None], tf.float64, "x")
    with serve(save_functions(tmp_path / "own", spec, serving_default=total, lost=lost)) as server:
        address = f"{server.address}/v1/models/own"
        rows = requests.post(f"{address}:predict", json={"instances": [1, 2]}, timeout=60)
        assert rows.status_code == 400
        assert "Send 'inputs', not 'instances'." in rows.json()["error"]
        body = {"inputs": [1, 2]}
        whole = requests.post(f"{address}:predict", json=body, timeout=60)
        assert whole.json() == {"outputs": {"total": 3.0, "each": [1.0, 2.0]}}
        body["signature_name"] = "lost"
        answer = requests.post(f"{address}:predict", json=body, timeout=60)
        assert answer.status_code == 500, "a model that fails of its own"
        assert answer.json() == {"error": "The model failed; the server's log says why."}
        assert requests.get(address, timeout=60).status_code == 200
        server.process.terminate()
        assert "offset.txt" in server.process.communicate(timeout=60)[1]


def refused(monkeypatch: pytest.MonkeyPatch, capsys: Any, *arguments: str | Path) -> str:
    """What the command line says, in this process, which has imported TensorFlow."""
    monkeypatch.setattr(sys, "argv", ["dlsweep", "serve", *map(str, arguments), "--port", "0"])
    with pytest.raises(SystemExit) as ended:
        main()
    shown = capsys.readouterr()
    assert ended.value.code == 1
    assert "Ctrl-C" not in shown.out
    return str(shown.err)


def run(*arguments: str | Path, code: str = "") -> tuple[int, str]:
    """Runs the command line until it ends, after some code; returns status and messages."""
    program = f"{code}\nfrom dlsweep.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "serve", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert "Traceback" not in done.stderr
    assert "Ctrl-C" not in done.stdout
    return done.returncode, done.stderr


def test_no_such_folder(tmp_path: Path) -> None:
    status, says = run(tmp_path / "exports" / "digits" / "onnx")
    assert status == 1
    assert says.startswith(f"There is no folder {tmp_path}")
    assert "Expected an export, as  exports/digits/onnx" in says


def test_a_folder_without_a_version(tmp_path: Path, exports: Path) -> None:
    (tmp_path / "0").mkdir()
    (tmp_path / "1.aside").mkdir()
    status, says = run(tmp_path)
    assert status == 1
    assert "has no version: no folder there is named with a number" in says
    status, says = run(exports / "digits")
    assert status == 1
    assert f"Type one of its formats:  {exports}/digits/onnx  or  " in says


def test_a_port_in_use_is_said_before_a_model_is_loaded(exports: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        hidden = "import sys; sys.modules['onnxruntime'] = None"
        status, says = run(exports / "digits" / "onnx", "--port", str(port), code=hidden)
    assert status == 1
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in says
    assert "--port " in says


@pytest.mark.parametrize("host", ["no.such.host.invalid", "203.0.113.1"])
def test_a_host_that_is_not_this_machine(exports: Path, host: str) -> None:
    status, says = run(exports / "digits" / "onnx", "--host", host)
    assert status == 1
    assert f"cannot listen on {host}:8501" in says


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--port", "65536"], "--port: Received 65536. Expected 0 to 65535."),
        (["--max-body-mb", "0"], "--max-body-mb: Received 0. Expected more than 0."),
        (["--name", "a/b"], "--name: Received 'a/b'. Expected a name without '/' and ':'."),
    ],
)
def test_odd_options(exports: Path, arguments: list[str], says: str) -> None:
    status, said = run(exports / "digits" / "onnx", *arguments)
    assert status in (1, 2)
    assert says in said


@pytest.mark.parametrize(
    ("package", "form", "extra"),
    [
        ("starlette", "onnx", "serve"),
        ("uvicorn", "onnx", "serve"),
        ("orjson", "onnx", "serve"),
        ("onnxruntime", "onnx", "onnx"),
        ("tensorflow", "savedmodel", "tensorflow"),
    ],
)
def test_a_missing_extra_is_named(exports: Path, package: str, form: str, extra: str) -> None:
    hidden = f"import sys; sys.modules[{package!r}] = None"
    status, says = run(exports / "digits" / form, "--port", "0", code=hidden)
    assert status == 1
    assert f"needs the package {package!r}, which is not installed." in says
    assert f"pip install 'dlsweep[{extra}]'" in says


def damaged(exports: Path, form: str, tmp_path: Path) -> Path:
    """A copy of an export whose newest version the caller may damage."""
    shutil.copytree(exports / "digits" / form, tmp_path / form)
    return tmp_path / form / "10"


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize(
    ("form", "file", "says"),
    [
        ("onnx", "model.onnx", "is not an ONNX model that ONNX Runtime"),
        ("savedmodel", "saved_model.pb", "is not a SavedModel that TensorFlow"),
    ],
)
def test_a_damaged_model_names_the_version_that_works(
    exports, tmp_path, form, file, says, monkeypatch, capsys
) -> None:
    version = damaged(exports, form, tmp_path)
    cut(version / file)
    said = refused(monkeypatch, capsys, tmp_path / form)
    assert str(version) in said
    assert says in said
    assert "Export it again." in said
    assert f"Or serve another version:  {tmp_path / form / '9'}" in said


def test_a_saved_model_without_its_weights(exports: Path, tmp_path: Path) -> None:
    version = damaged(exports, "savedmodel", tmp_path)
    shutil.rmtree(version / "variables")
    status, said = run(version, "--port", "0")
    assert status == 1
    assert f"{version} is not a SavedModel that TensorFlow" in said
    assert "variables" in said
    assert "deprecated" not in said


def test_a_saved_model_without_the_tag_serve(exports, tmp_path, monkeypatch, capsys) -> None:
    file = damaged(exports, "savedmodel", tmp_path) / "saved_model.pb"
    file.write_bytes(file.read_bytes().replace(b'"\x05serve', b'"\x05train'))
    said = refused(monkeypatch, capsys, file.parent)
    assert f"{file.parent} is not a SavedModel that TensorFlow" in said
    assert "serve" in said.partition("is not a SavedModel")[2]


def test_a_version_without_a_model(exports: Path, tmp_path: Path) -> None:
    (damaged(exports, "onnx", tmp_path) / "model.onnx").unlink()
    status, said = run(tmp_path / "onnx", "--port", "0")
    assert status == 1
    assert "has no model to serve. Expected the file model.onnx or saved_model.pb." in said


@pytest.mark.parametrize(
    ("dtype", "shape", "says"),
    [("complex64", [None], "'x' of type complex64"), ("float32", None, "and any rank")],
)
def test_an_input_that_json_cannot_give(
    tmp_path: Path, dtype, shape, says, monkeypatch, capsys
) -> None:
    import tensorflow as tf

    spec = tf.TensorSpec(shape, dtype, "x")
    save_functions(tmp_path, spec, serving_default=lambda x: {"scores": tf.identity(x)})
    said = refused(monkeypatch, capsys, tmp_path)
    assert says in said
    assert "Expected numbers, booleans or strings, and a fixed rank." in said


def test_an_input_that_is_no_tensor(tmp_path: Path) -> None:
    from onnx import TensorProto, helper, save

    inputs = [helper.make_sequence_type_proto(helper.make_tensor_type_proto(1, ["n"]))]
    graph = helper.make_graph(
        [helper.make_node("SequenceLength", ["many"], ["scores"])],
        "model",
        [helper.make_value_info("many", inputs[0])],
        [helper.make_tensor_value_info("scores", TensorProto.INT64, [])],
    )
    opsets = [helper.make_opsetid("", 20)]
    (tmp_path / "1").mkdir()
    save(
        helper.make_model(graph, opset_imports=opsets, ir_version=10),
        tmp_path / "1" / "model.onnx",
    )
    status, said = run(tmp_path, "--port", "0")
    assert status == 1
    assert "Received 'many' of type seq(tensor(float)). Expected a tensor" in said
