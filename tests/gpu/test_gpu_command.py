"""``make gpu`` where there is no GPU: it says so, and its checks' code runs on a CPU."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

RUN = Path(__file__).with_name("run.py")
#: The quick ones; ``python tests/gpu/run.py --cpu`` runs all.
_QUICK = ("slots", "out_of_memory", "data", "nvml", "resume")


def run(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(RUN), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=280, **options)


def test_without_a_gpu_it_says_so() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    done = run()
    assert done.returncode == 2
    assert "There is no GPU: PyTorch" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_the_code_of_the_checks_runs_on_a_cpu(tmp_path: Path) -> None:
    report = tmp_path / "gpu.md"
    done = run("--cpu", "--out", str(report), *_QUICK)
    assert done.returncode == 0, done.stdout + done.stderr
    assert report.read_text() == done.stdout
    for name in _QUICK:
        assert f"| {name} | held |" in done.stdout


def test_a_check_that_fails_or_hangs_ends_no_other(tmp_path: Path) -> None:
    code = RUN.read_text().replace(
        "from checks import CHECKS",
        "from broken import CHECKS",
    )
    (tmp_path / "run.py").write_text(code)
    (tmp_path / "checks.py").write_text("from broken import main\nraise SystemExit(main())\n")
    (tmp_path / "broken.py").write_text(
        "import sys, time\n"
        "def hangs(): time.sleep(60)\n"
        "def fails(): raise ValueError('why it failed')\n"
        "def holds(): return 'all is well'\n"
        "CHECKS = {hangs: 6, fails: 60, holds: 60}\n"
        "def main():\n"
        "    print({one.__name__: one for one in CHECKS}[sys.argv[1]]())\n"
        "    return 0\n"
    )
    command = [sys.executable, "run.py", "--cpu"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stderr
    assert "| hangs | timed out | 6 | it took longer than 6 s |" in done.stdout
    assert "| fails | FAILED |" in done.stdout
    assert "ValueError: why it failed" in done.stdout
    assert "| holds | held |" in done.stdout
    assert "1 of 3 held" in done.stdout


def test_an_unknown_check_is_refused() -> None:
    done = run("--cpu", "slot")
    assert done.returncode == 2
    assert "Received 'slot'. Expected slots, fork" in done.stderr
