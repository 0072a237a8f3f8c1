"""The page docs/serve.md: its command, its client and its mount fit together and work."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import requests

pytestmark = pytest.mark.slow

PAGE = (Path(__file__).parents[2] / "docs" / "serve.md").read_text()
BASH = re.findall(r"```bash\n(.*?)\n```", PAGE, re.DOTALL)
[CLIENT] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
[CURL] = re.findall(r"\$ curl 127.0.0.1:8501(\S+) -d '(.*)'\n(.*)\n", PAGE)
SERVE, DOCKER = BASH


def test_the_command_and_the_client_work(serve, exports: Path) -> None:
    words = shlex.split(SERVE)
    assert words[:4] == ["python", "-m", "dlsweep", "serve"]
    with serve(exports.parent / words[4].replace("exports", exports.name)) as server:
        assert "/v1/models/digits:predict" in server.said
        client = CLIENT.replace("http://127.0.0.1:8501", server.address)
        done = subprocess.run(
            [sys.executable, "-c", client], capture_output=True, text=True, timeout=60, check=True
        )
        assert re.fullmatch(r"digit \d 0\.\d+\n", done.stdout)
        path, body, answer = CURL
        assert requests.post(server.address + path, data=body, timeout=60).text == answer


def test_the_mount_is_a_saved_model_where_tensorflow_serving_looks(exports: Path) -> None:
    words = shlex.split(DOCKER)
    source, _, target = words[words.index("-v") + 1].partition(":")
    name = words[words.index("-e") + 1].removeprefix("MODEL_NAME=")
    assert target == f"/models/{name}"
    versions = sorted(Path(source.replace("$PWD/exports", str(exports))).iterdir())
    assert versions
    for version in versions:
        assert version.name.isdigit()
        assert (version / "saved_model.pb").is_file()
