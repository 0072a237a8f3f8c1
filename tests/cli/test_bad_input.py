"""The real command line with what cannot work: one sentence, and nothing was started."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

SHIPPED = ("tracking=none",)
QUADRATIC = ("+experiment=quadratic", "tracking=none")
SWEEP = (*QUADRATIC, "training.x=1,2", "-m")

_TRAINER = """
from dlsweep.trainers.base import Trainer

class MyTrainer(Trainer):
    def __init__(self, x: float, y: float, steps: int, seconds: float,
                 monitor: str, mode: str) -> None: ...
    def fit(self, run): return {"val/loss": 1.0}
"""


_CONF = {
    "conf/experiment/mine.yaml": "# mine\n# @package _global_\ntraining: {epochs: 1}\n",
    "conf/tracking/mine.yaml": "_target_: mine.Tracker\n",
}


@dataclass(frozen=True)
class Case:
    """A command, what its answer must say, and why no test passes yet, if one does not."""

    name: str
    arguments: tuple[str, ...]
    says: tuple[str, ...]


CASES = [
    Case(
        "unknown key",
        (*QUADRATIC, "training.stepz=3"),
        ("no key 'training.stepz'. Did you mean 'training.steps'", "+training.stepz=<value>"),
    ),
    Case(
        "value with new keys",
        ("training.param_groups={head: {lr: 0.1}}",),
        (
            "training.param_groups: Received a value with keys that the config does not have",
            "+training.param_groups.<name>=<value>",
        ),
    ),
    Case(
        "experiment in a package of its own",
        ("+experiment=mine", *SHIPPED),
        ("experiment: Received experiment.training, which nothing reads", "# @package _global_"),
    ),
    Case(
        "tracker without a name",
        (*QUADRATIC[:1], "tracking=mine"),
        ("tracking._target_: Received 'mine.Tracker'", "# @package tracking.<name>"),
    ),
    Case(
        "a word for a whole number",
        (*SWEEP[:-1], "hydra.sweeper.n_trials=many", "-m"),
        ("hydra.sweeper.n_trials: Received 'many'. Expected a whole number.\n",),
    ),
    Case(
        "a word for a number",
        (*SWEEP[:-1], "hydra.sweeper.timeout=soon", "-m"),
        ("hydra.sweeper.timeout: Received 'soon'. Expected a number.\n",),
    ),
    Case(
        "a word for true or false",
        (*SWEEP[:-1], "hydra.sweeper.predict_memory=maybe", "-m"),
        ("hydra.sweeper.predict_memory: Received 'maybe'. Expected true or false.\n",),
    ),
    Case(
        "a list for a text",
        (*SWEEP[:-1], "hydra.sweeper.study_name=[1]", "-m"),
        ("hydra.sweeper.study_name: Received [1]. Expected a text.\n",),
    ),
    Case(
        "a word for the cores of a trial",
        (*SWEEP[:-1], "launcher.cpus_per_trial=many", "-m"),
        ("launcher.cpus_per_trial: Received 'many' (str). Expected float or 'auto'.\n",),
    ),
    Case("unknown group", ("modell=mlp",), ("no key 'modell'. Did you mean 'model'",)),
    Case(
        "unknown choice",
        ("model=mpl",),
        ("The group 'model' has no choice 'mpl'. Did you mean 'mlp'?", "There are: cnn, mlp, none"),
    ),
    Case(
        "unknown choice in a sweep",
        ("+experiment=quadratc", "-m"),
        ("The group 'experiment' has no choice 'quadratc'. Did you mean 'quadratic'?",),
    ),
    Case(
        "unknown key of the sweep",
        (*SWEEP, "hydra.sweeper.n_trialz=3"),
        ("Did you mean 'hydra.sweeper.n_trials'", "--cfg hydra"),
    ),
    Case(
        "password in the address of a database",
        (*SWEEP, "hydra.sweeper.storage=postgresql+psycopg://me:hunter2@host/db"),
        ("hydra.sweeper.storage contains a password", "PGPASSWORD", "PGPASSFILE"),
    ),
    Case(
        "database through a package that waits for ever",
        (*SWEEP, "hydra.sweeper.storage=postgresql+psycopg2://me@host/db"),
        (
            "Received postgresql+psycopg2://…. Expected postgresql+psycopg://…",
            "'dlsweep[postgres]'",
        ),
    ),
    Case(
        "database through the package that SQLAlchemy takes",
        (*SWEEP, "hydra.sweeper.storage=postgresql://me@host/db"),
        ("Received postgresql://…. Expected postgresql+psycopg://…",),
    ),
    Case(
        "database that cannot be reached",
        (*SWEEP, "hydra.sweeper.storage=postgresql+psycopg://me@127.0.0.1:1/db"),
        ("cannot be opened: connection failed", "Expected a running server"),
    ),
    Case(
        "wrong type",
        (*SWEEP, "training._target_=mytrainer.MyTrainer", "training.steps=many"),
        ("training.steps: Received 'many' (str). Expected int.",),
    ),
    Case(
        "wrong type of a swept value",
        (
            *QUADRATIC,
            "training._target_=mytrainer.MyTrainer",
            "training.steps=range(0,2,0.5)",
            "-m",
        ),
        ("training.steps: Received 0.0 (float). Expected int.",),
    ),
    Case(
        "empty range",
        (*QUADRATIC, "training.x=range(5,1)", "-m"),
        ("training.x: range(5,1) is empty. Expected range(start, stop, step)",),
    ),
    Case(
        "inverted interval",
        (*QUADRATIC, "training.x=interval(5,1)", "-m"),
        ("training.x: Received interval(5,1). Expected interval(low, high) with low below high",),
    ),
    Case(
        "null for a group",
        (*SHIPPED, "training/scheduler=null"),
        ("training/scheduler: Received null", "Type  training/scheduler=none"),
    ),
    Case(
        "null for a group without none",
        (*SHIPPED, "launcher=null"),
        ("launcher: Received null", "Type  launcher=<option>"),
    ),
    Case(
        "null among groups",
        (*SHIPPED, "training/scheduler=cosine,null", "-m"),
        ("training/scheduler: Received null among", "Type  training/scheduler=none,…"),
    ),
    Case(
        "no end",
        (*SHIPPED, "model.dropout=interval(0,0.5)", "-m"),
        ("The space is infinite", "hydra.sweeper.n_trials=<count>"),
    ),
    Case(
        "swept key that exists nowhere",
        (*QUADRATIC, "training.xx=1,2", "-m"),
        (
            "'training.xx' does not exist in any config of this sweep. Did you mean",
            "+training.xx=1,2",
        ),
    ),
    Case(
        "several values without -m",
        (*QUADRATIC, "training.x=1,2"),
        ("Ambiguous value for argument 'training.x=1,2'", "add --multirun"),
    ),
    Case(
        "target that cannot be imported",
        (*SWEEP, "training._target_=nosuch.train"),
        ("training._target_: 'nosuch.train' cannot be imported", "No module named 'nosuch'"),
    ),
    Case(
        "target of a single run",
        (*QUADRATIC, "training._target_=nosuch.train"),
        ("training._target_: 'nosuch.train' cannot be imported", "No module named 'nosuch'"),
    ),
    Case(
        "folder that cannot be written",
        (*SWEEP, "outputs=/proc/no"),
        ("The folder /proc/no/quadratic cannot be written", "outputs=/some/folder"),
    ),
    Case(
        "folder of a single run",
        (*QUADRATIC, "outputs=/proc/no"),
        ("/proc/no cannot be written", "outputs=/some/folder"),
    ),
    Case(
        "more gpus than there are",
        (*SWEEP, "launcher.gpus_per_trial=9"),
        ("launcher.gpus_per_trial: Received 9. This machine has 1 GPU.",),
    ),
    Case(
        "experiment swept",
        ("+experiment=quadratic,mnist", "-m"),
        ("experiment cannot be swept", "Run one sweep for each"),
    ),
    Case(
        "missing package",
        (*SWEEP, "framework.preload=[nosuchpackage]"),
        (
            "launcher.preload needs the package 'nosuchpackage', which is not installed",
            "pip install",
        ),
    ),
    Case("not a run folder", ("resume", "nowhere"), ("nowhere is not a run folder",)),
    Case("not a study's folder", ("report", "nowhere"), ("nowhere is not a study folder",)),
    Case(
        "a page of what is no study",
        ("report", "nowhere", "--html"),
        ("nowhere is not a study folder: it has no study.json",),
    ),
    Case(
        "a page in the place of another file",
        ("report", "nowhere", "--html", "--out", "mytrainer.py"),
        ("mytrainer.py exists and is not a report of dlsweep", "--out some/report.html"),
    ),
]


#: Does what a shell would with each command, but imports once for all, and forks.
_SHELL = """
import json, os, sys
import dlsweep.cli.explain, dlsweep.sweep.multirun, dlsweep.drive.single, dlsweep.sweep.sweep
from dlsweep.launchers.warm import run_python

def type_in(folder, arguments):
    os.chdir(folder)
    log = os.open("output.txt", os.O_CREAT | os.O_WRONLY)
    os.dup2(log, 1)
    os.dup2(log, 2)
    code = run_python(["-m", "dlsweep", *arguments])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)

def hear():
    pid, status = os.wait()
    with open(os.path.join(running.pop(pid), "code.txt"), "w") as file:
        file.write(str(os.waitstatus_to_exitcode(status)))

running = {}
for folder, arguments in json.load(sys.stdin):
    if len(running) == 2:
        hear()
    if (pid := os.fork()) == 0:
        type_in(folder, arguments)
    running[pid] = folder
while running:
    hear()
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folder in which each command was typed, with its output and exit code."""
    root = tmp_path_factory.mktemp("bad")
    found = {case.name: root / case.name for case in CASES}
    for folder in found.values():
        folder.mkdir()
        for name, text in {"mytrainer.py": _TRAINER, **_CONF}.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
    subprocess.run(
        [sys.executable, "-c", _SHELL],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "0"},
        input=json.dumps([(str(found[case.name]), case.arguments) for case in CASES]),
        text=True,
        timeout=240,
        check=True,
    )
    return found


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=case.name) for case in CASES],
)
def test_it_ends_with_a_sentence_and_starts_nothing(folders: dict[str, Path], case: Case) -> None:
    folder = folders[case.name]
    output = (folder / "output.txt").read_text()
    assert (folder / "code.txt").read_text() == "1", output
    assert "Traceback" not in output
    for words in case.says:
        assert words in output
    begun = [*folder.glob("outputs/*/trials/*"), *folder.glob("outputs/*/runs/*")]
    assert begun == [], "no trial and no run"


@pytest.mark.parametrize(("framework", "package"), [("torch", "torch"), ("keras", "tensorflow")])
def test_a_missing_framework_is_named_with_what_to_install(
    tmp_path: Path, framework: str, package: str
) -> None:
    hide = f"import sys; sys.modules[{package!r}] = None\n"
    main = "from dlsweep.cli.main import main; sys.argv = ['dlsweep', *sys.argv[1:]]; main()"
    done = subprocess.run(
        [sys.executable, "-c", hide + main, f"framework={framework}", "tracking=none"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert f"needs the package {package!r}, which is not installed" in done.stderr
    assert f"pip install 'dlsweep[{package}]'" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("outputs/*/*/*"))
