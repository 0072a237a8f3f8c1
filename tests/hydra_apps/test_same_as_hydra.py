"""A user's Hydra app gets the same configs from dlsweep's sweeper as from Hydra's basic one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

_APP = """
import json, os
from pathlib import Path
import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

@hydra.main(config_path="conf", config_name="app", version_base="1.3")
def main(cfg):
    job = HydraConfig.get().job
    runtime = HydraConfig.get().runtime
    seen = {
        "config": OmegaConf.to_container(cfg, resolve=True),
        "num": job.num,
        "name": job.name,
        "env": os.environ.get("MINE"),
        "in_output_dir": os.getcwd() == runtime.output_dir,
        "choices": {k: v for k, v in runtime.choices.items() if not k.startswith("hydra/")},
        "output_subdir": HydraConfig.get().output_subdir,
        "verbose": HydraConfig.get().verbose,
    }
    Path(os.environ["SEEN"], f"{job.num}.json").write_text(json.dumps(seen))
    Path("mine.txt").write_text(str(job.num))
    return 0.5

if __name__ == "__main__":
    main()
"""
_CONF = {
    "app.yaml": """
defaults:
  - opt: adam
  - opt@second: sgd
  - model: ???
  - _self_
seed: 1
number: ${hydra:job.num}
nested: {a: 1, b: [1, 2], c: null}
""",
    "opt/adam.yaml": "name: adam\nlr: 0.1\n",
    "opt/sgd.yaml": "name: sgd\nlr: 0.2\nmomentum: 0.9\n",
    "model/aa.yaml": "depth: 1\n",
    "model/bb.yaml": "depth: 2\n",
}
#: Override lines; each runs under both sweepers.
LINES = [
    "model=aa opt@second=adam,sgd opt=sgd",
    "model=aa opt@second=adam,sgd opt=sgd,adam",
    "model=aa +opt@third=adam,sgd",
    "model=aa +opt@third=adam seed=1,2",
    "model=aa opt@second=adam,sgd second.lr=1,2",
    "model=aa,bb nested.a=1,2 nested.c=x,null",
    "model=aa nested.b=[1],[2,3] ~nested.a",
    "model=aa +new=1,2 ++seed=4",
    "'model=glob(*)' 'opt=choice(sgd,adam)' 'seed=range(1,3)'",
    "model=aa seed=1,2 hydra.job.chdir=True hydra.job.name=other +hydra.job.env_set.MINE=yes",
    "model=aa seed=1,2 hydra.output_subdir=null 'hydra.sweep.subdir=x_${hydra.job.num}'",
    "model=aa seed=1,2 hydra.verbose=true",
    "model=aa seed=1,2 hydra/job_logging=disabled",
    "model=aa seed=7",
]


def run(folder: Path, sweeper: str, line: str) -> tuple[subprocess.CompletedProcess[str], Path]:
    seen = folder / sweeper
    seen.mkdir()
    command = f"{sys.executable} {folder / 'app.py'} -m {line}"
    done = subprocess.run(
        f"{command} hydra/sweeper={sweeper} hydra.sweep.dir={seen}/out",
        shell=True,  # lines are quoted as in a shell
        cwd=folder,
        env={**os.environ, "SEEN": str(seen)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done, seen


def jobs(seen: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(seen.glob("*.json"))]


@pytest.fixture
def app(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(_APP)
    for name, text in _CONF.items():
        path = tmp_path / "conf" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


@pytest.mark.parametrize("line", LINES)
def test_the_jobs_of_a_line_are_the_same(app: Path, line: str) -> None:
    basic, theirs = run(app, "basic", line)
    assert basic.returncode == 0, basic.stderr
    ours, mine = run(app, "dlsweep", line)
    assert ours.returncode == 0, ours.stdout + ours.stderr
    assert jobs(theirs), "the line runs nothing"
    assert jobs(mine) == jobs(theirs)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("model=aa +x@y=1,2", "'x'"),
        ("model=aa seed@y=1,2", "'seed'"),
        ("model=aa seedd=1,2", "seedd"),
        ("model=cc,aa", "cc"),
    ],
)
def test_what_hydra_refuses_is_refused_without_a_traceback(app: Path, line: str, says: str) -> None:
    basic, _ = run(app, "basic", line)
    assert basic.returncode == 1
    ours, mine = run(app, "dlsweep", line)
    assert ours.returncode == 1
    assert not jobs(mine)
    assert says in ours.stderr
    assert "Traceback" not in ours.stderr
