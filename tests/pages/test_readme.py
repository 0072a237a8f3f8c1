"""Every command of the README and of the pages under docs/ is run, in order, in one project.

Those of docs/serve.md are run by tests/serve/test_docs.py, those of docs/scale.md by
tests/faults/test_postgres.py, those of docs/report.md by
tests/results/test_report.py. The tutorials and the course have tests of their own in this folder.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest
from pages import ROOT, TOOLS, bash_of, shell

pytestmark = pytest.mark.slow

README = (ROOT / "README.md").read_text()
COMMANDS = bash_of(ROOT / "README.md")
RUNS = [line for line in COMMANDS if line.startswith("python -m dlsweep")]
SERVERS = [line for line in COMMANDS if line.startswith(("mlflow ui", "tensorboard"))]
INSTALLS = [
    line for line in COMMANDS if line.startswith(("python3 -m venv", "pip install", "make"))
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("readme")


def printed(command: str, folder: Path) -> str:
    code, text = shell(command, folder)
    assert code == 0, f"{command}\n{text}"
    return text


def test_every_command_is_known() -> None:
    assert sorted(COMMANDS) == sorted(RUNS + SERVERS + INSTALLS)
    assert len(RUNS) >= 8


@pytest.mark.timeout(900)
def test_every_run_works_in_order(folder: Path) -> None:
    outputs = {command: printed(command, folder) for command in RUNS}
    main = outputs["python -m dlsweep +experiment=mnist -m"]
    assert "mnist: 24 trials" in main
    assert (folder / "outputs" / "mnist" / "trials.csv").exists()
    grid = next(output for command, output in outputs.items() if "study_name=grid" in command)
    assert "4 trials (4 completed)" in grid


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("page", "shorter", "written"),
    [
        ("promote.md", "", "outputs/promote/best.yaml"),
        ("samplers.md", "", "outputs/warm/warm_start.json"),
        ("best.md", " training.epochs=1", "outputs/mnist-best-3x5/deploy.json"),
        ("export.md", "", "exports/digits/onnx/2/parity.json"),
        ("disk.md", "", "outputs/mnist/trials/0001/removed.json"),
        ("training.md", " training.epochs=1 tracking=none", "outputs/odd/result.json"),
    ],
)
def test_the_commands_of_a_page_work(folder: Path, page: str, shorter: str, written: str) -> None:
    lines = bash_of(ROOT / "docs" / page)
    commands = [line for line in lines if line.startswith("python -m dlsweep")]
    assert commands
    for command in commands:
        printed(f"{command}{shorter}", folder)
    assert (folder / written).exists()


@pytest.mark.parametrize("command", SERVERS)
def test_what_the_trackers_show_can_be_opened(folder: Path, command: str) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    server = subprocess.Popen(
        [f"{TOOLS}/{(words := shlex.split(command))[0]}", *words[1:], "--port", str(port)],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        assert b"<html" in _page(f"http://127.0.0.1:{port}/").lower()
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _page(address: str) -> bytes:
    deadline = time.monotonic() + 90
    while True:
        try:
            with urllib.request.urlopen(address, timeout=10) as answer:
                return answer.read()
        except OSError:
            assert time.monotonic() < deadline, f"{address} does not answer"
            time.sleep(0.5)


def test_the_tour_names_files_that_exist() -> None:
    for link in re.findall(r"\]\(([^)h][^)]*)\)", README):
        assert (ROOT / link).exists(), link
