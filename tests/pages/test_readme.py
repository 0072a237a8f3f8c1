"""Every command of the README and of the pages under docs/ is run, in order, in one project.

Those of docs/serve.md are run by tests/serve/test_docs.py, those of docs/scale.md by
tests/faults/test_postgres.py, those of docs/report.md by
tests/results/test_report.py. The tutorials and the course have tests of their own in this folder.
"""

from __future__ import annotations

import re
import signal
import subprocess
import urllib.request
from pathlib import Path
from subprocess import PIPE

import pytest
from pages import ROOT, TOOLS, Shell, bash_of, shell

pytestmark = pytest.mark.slow

COMMANDS = bash_of(ROOT / "README.md")
DASHBOARDS = [line for line in COMMANDS if line.startswith("python -m dlsweep ui")]
INSTALLS = [
    line for line in COMMANDS if line.startswith(("python3 -m venv", "pip install", "make"))
]
RUNS = [line for line in COMMANDS if line not in {*DASHBOARDS, *INSTALLS}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("readme")


def printed(command: str, folder: Path, run: Shell = shell) -> str:
    code, text = run(command, folder)
    assert code == 0, f"{command}\n{text}"
    return text


def test_it_is_short_and_every_command_is_known() -> None:
    assert all(line.startswith("python -m dlsweep ") for line in RUNS)
    assert len(RUNS) >= 7
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


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
        ("pbt.md", " training.epochs=2", "outputs/pbt/trials/0000/lineage.json"),
        ("samplers.md", "", "outputs/warm/warm_start.json"),
        (
            "best.md",
            " training.epochs=1 launcher=inline tracking=none",
            "outputs/mnist-best-3x5/deploy.json",
        ),
        ("export.md", "", "exports/digits/onnx/2/parity.json"),
        ("disk.md", "", "outputs/mnist/trials/0001/removed.json"),
        ("training.md", " training.epochs=1", "outputs/odd/result.json"),
    ],
)
def test_the_commands_of_a_page_work(
    folder: Path, warm: Shell, page: str, shorter: str, written: str
) -> None:
    lines = bash_of(ROOT / "docs" / page)
    commands = [line for line in lines if line.startswith("python -m dlsweep")]
    assert commands
    for command in commands:
        printed(f"{command}{shorter}", folder, warm)
    assert (folder / written).exists()


@pytest.mark.parametrize("command", DASHBOARDS)
def test_the_dashboards_open(folder: Path, command: str) -> None:
    script = f"exec {TOOLS}/{command}"
    server = subprocess.Popen(["bash", "-c", script], cwd=folder, stdout=PIPE, text=True)
    try:
        assert server.stdout
        lines = [server.stdout.readline() for _ in range(4)]
        for address in re.findall(r"http://127\S+", "".join(lines)):
            with urllib.request.urlopen(address, timeout=90) as answer:
                assert b"<html" in answer.read().lower()
        assert len(re.findall("http://", "".join(lines))) == 4, lines
    finally:
        server.send_signal(signal.SIGINT)
        server.communicate(timeout=60)
    assert server.returncode == 0
