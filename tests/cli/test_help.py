"""The help of each verb, and completion in a real shell."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from dlsweep.cli import help, main

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("verb", main._VERBS)
def test_a_verb_s_help_has_an_example_and_where_to_read_on(verb: str, capsys) -> None:
    with pytest.raises(SystemExit) as end:
        main._VERBS[verb](["--help"])
    assert end.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    example, page = (line.split("  ")[1] for line in lines[-2:])
    assert shlex.split(example)[:4] == ["python", "-m", "dlsweep", verb]
    assert (ROOT / page).exists()


def test_the_app_s_help_names_every_verb() -> None:
    shown = help.text([])
    assert [verb for verb in main._VERBS if f"python -m dlsweep {verb}" not in shown] == []


def test_the_shell_completes_a_group(tmp_path: Path) -> None:
    line = "dlsweep model=r"
    tools = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    script = (
        f'eval "$(dlsweep -sc install=bash)"; COMP_LINE="{line}"; COMP_POINT={len(line)}; '
        "COMP_CWORD=1; hydra_bash_completion; echo ${COMPREPLY[@]}"
    )
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PATH": tools},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "model=resnet\n", done.stderr
