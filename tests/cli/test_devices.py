"""What ``python -m dlsweep devices`` prints."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

from dlsweep.cli import devices
from dlsweep.machine.devices import cpu_count

_NVIDIA_SMI = """#!/bin/sh
case "$1" in
  "") echo "| NVIDIA-SMI 570.86   Driver Version: 570.86   CUDA Version: 12.8 |" ;;
  --query-gpu=index) printf '0\\n1\\n' ;;
  *) printf '0, NVIDIA H100, 81559 MiB, 570.86\\n1, NVIDIA H100, 81559 MiB, 570.86\\n' ;;
esac
"""


@pytest.fixture
def two_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that answers as nvidia-smi does on a machine with two GPUs."""
    program = tmp_path / "nvidia-smi"
    program.write_text(_NVIDIA_SMI)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def printed(capsys: pytest.CaptureFixture[str]) -> str:
    devices.main()
    return capsys.readouterr().out


@pytest.fixture
def _nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)


@pytest.mark.usefixtures("_nothing_installed")
def test_what_is_not_installed_says_how_to_get_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    output = printed(capsys)
    assert f"CPU          {cpu_count()} core" in output
    assert "GPU          none: there is no nvidia-smi" in output
    assert "torch        not installed.  Type  pip install 'dlsweep[torch]'" in output
    assert "keras        not installed.  Type  pip install 'dlsweep[tensorflow]'" in output
    assert f"a sweep      {cpu_count()} slot" in output


@pytest.mark.usefixtures("_nothing_installed", "two_gpus")
def test_gpus_are_named_with_their_driver_and_make_the_slots(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    output = printed(capsys)
    assert "GPU          0: NVIDIA H100, 81559 MiB\nGPU          1: NVIDIA H100" in output
    assert "driver       570.86, for CUDA up to 12.8" in output
    assert "each, GPU 0" in output
    assert ("up to 8 trials at a time" in output) == (cpu_count() >= 8)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert "CUDA_VISIBLE_DEVICES=1 hides all others" in printed(capsys)


@pytest.mark.slow
def test_each_framework_tells_what_it_sees(capsys: pytest.CaptureFixture[str]) -> None:
    torch = pytest.importorskip("torch")
    (line,) = [line for line in printed(capsys).splitlines() if line.startswith("torch ")]
    assert torch.__version__ in line
    assert ("sees no GPU" in line) == (not torch.cuda.is_available())


@pytest.mark.slow
def test_a_framework_that_is_broken_says_how_to_look(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('libcudart.so.12: cannot open')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert "which cannot be imported: try  python -c 'import torch'" in printed(capsys)
