"""A trained model in MLflow's own format: kept, registered, loaded and served by MLflow itself."""

from __future__ import annotations

import json
import os
import platform
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

import dlsweep
from dlsweep.data.base import normalised
from dlsweep.errors import ConfigError
from dlsweep.folders.rundir import Result, RunDir
from dlsweep.folders.studydir import StudyDir
from dlsweep.trackers.mlflow.tracker import MLflowTracker

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]

INPUTS = np.random.default_rng(0).normal(size=(20, 2))


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture
def client(uri: str):
    from mlflow.tracking import MlflowClient

    return MlflowClient(uri)


def told(tracker: MLflowTracker, run: RunDir, accuracy: float = 0.9, times: int = 1) -> dict:
    """Tells a tracker of a completed run; returns its state."""
    state: dict = {}
    tracker.start(run, {}, state)
    for _ in range(times):
        tracker.finish(run, Result("completed", metrics={"val/accuracy": accuracy}), state)
    return state


def models_of(client: Any, state: dict) -> list[str]:
    outputs = client.get_run(state["run_id"]).outputs
    return [model.model_id for model in (outputs.model_outputs if outputs else ())]


def expected(lab: Any, run: RunDir) -> np.ndarray:
    model, inputs = dlsweep.load_model(run.path), INPUTS.astype(np.float32)
    if lab.framework == "keras":
        return model.predict(inputs, verbose=0)
    import torch

    with torch.no_grad():
        return model(torch.from_numpy(inputs)).numpy()


def test_mlflow_loads_the_model_and_it_predicts_the_same(
    lab, uri: str, client, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow
    from mlflow.exceptions import MlflowException

    run = lab.trained(epochs=2)
    (model_id,) = models_of(client, told(MLflowTracker(uri, log_model="all"), run, times=2))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    model = mlflow.pyfunc.load_model(f"models:/{model_id}")
    np.testing.assert_allclose(model.predict(INPUTS), expected(lab, run), rtol=1e-5, atol=1e-6)
    with pytest.raises(MlflowException, match=r"\(-1, 2\)"):
        model.predict(INPUTS[:, :1])
    kept = client.get_logged_model(model_id)
    assert (kept.status, kept.name) == ("READY", f"study-{run.path.name}")
    assert_environments_can_be_made(f"models:/{model_id}")


def assert_environments_can_be_made(model: str) -> None:
    """MLflow finds what ``--env-manager`` makes an environment from, by pip or by conda."""
    from mlflow.pyfunc import get_model_dependencies

    packages = Path(get_model_dependencies(model)).read_text().splitlines()
    assert "dlsweep" in packages
    conda = OmegaConf.load(get_model_dependencies(model, "conda"))
    python, _, pip = conda["dependencies"]
    assert (python, pip["pip"]) == (f"python={platform.python_version()}", packages)


def test_the_model_is_kept_without_its_framework_and_without_a_word(lab, uri: str) -> None:
    run = lab.trained(epochs=1)
    code = (
        "import sys; from dlsweep.folders.rundir import *\n"
        "from dlsweep.trackers.mlflow.tracker import *\n"
        "tracker, run = MLflowTracker(sys.argv[1], log_model='all'), RunDir(sys.argv[2])\n"
        "state = {}\n"
        "tracker.start(run, {}, state); tracker.finish(run, Result('completed'), state)\n"
        "assert tracker._client.get_run(state['run_id']).outputs.model_outputs\n"
        "print(*{'torch', 'tensorflow', 'keras', 'sklearn', 'saving_data'} & {*sys.modules})"
    )
    command = [sys.executable, "-c", code, uri, str(run.path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("\n", "")


def test_what_a_crash_left_half_done_is_finished_and_there_once(make_lab, uri: str, client) -> None:
    run = make_lab("torch").trained(epochs=1)
    tracker = MLflowTracker(uri, log_model="all")
    (whole,) = models_of(client, told(tracker, run))
    tags = client.get_logged_model(whole).tags
    client.delete_logged_model(whole)
    experiment = client.get_experiment_by_name("study").experiment_id
    half = client.create_logged_model(experiment, "half", tags=tags)
    state = told(tracker, run)
    assert half.model_id in models_of(client, state)
    assert client.get_logged_model(half.model_id).status == "READY"


def test_a_crash_before_any_call_leaves_one_model_and_one_version(
    make_lab, uri: str, client, dying
) -> None:
    run = make_lab("torch").trained(epochs=1)
    child = told(MLflowTracker(uri), run)
    crashes = 0
    while True:
        tracker = MLflowTracker(uri, registered_model_name="crashed")
        tracker.__dict__["_client"] = dying(client, crashes)
        try:
            tracker.log_study(StudyDir(run.path.parents[1]), finished(run, 0.9), {})
            break
        except dying.Crash:
            crashes += 1
    assert crashes > 12
    (model_id,) = models_of(client, child)
    (version,) = client.search_model_versions("name = 'crashed'")
    assert version.tags["dlsweep.model_id"] == model_id
    assert client.get_model_version_by_alias("crashed", "best").version == version.version
    experiment = client.get_experiment_by_name("study").experiment_id
    wanted = f"tags.`dlsweep.run_id` = '{run.info().id}'"
    assert len(client.search_logged_models([experiment], wanted)) == 1


def test_a_better_checkpoint_is_another_model(make_lab, uri: str, client) -> None:
    lab = make_lab("torch")
    run = lab.trained(epochs=1)
    tracker = MLflowTracker(uri, log_model="all")
    state = told(tracker, run)
    manifest = next(run.checkpoints.glob("*/manifest.json"))
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "time": 0.0}))
    tracker.finish(run, Result("completed"), state)
    assert len(models_of(client, state)) == 2


def test_by_default_the_best_trial_alone_has_a_model(make_lab, uri: str, client) -> None:
    lab = make_lab("torch")
    runs = [lab.trained(epochs=1) for _ in range(2)]
    tracker = MLflowTracker(uri)
    states = [told(tracker, run) for run in runs]
    assert [models_of(client, state) for state in states] == [[], []]
    study, parent = StudyDir(runs[0].path.parents[1]), {}
    for _ in range(2):
        tracker.log_study(study, finished(runs[1], 0.9), parent)
    assert [len(models_of(client, state)) for state in states] == [0, 1]


def test_a_single_run_has_one(make_lab, uri: str, client) -> None:
    run = make_lab("torch").trained(epochs=1)
    run.info_file.write_text(json.dumps({**json.loads(run.info_file.read_text()), "number": None}))
    assert len(models_of(client, told(MLflowTracker(uri), run))) == 1
    assert models_of(client, told(MLflowTracker(uri, log_model="none"), run)) != []  # the same run


def finished(best: RunDir, value: float) -> dict:
    return {
        "id": f"study of {best.info().id}",
        "name": "study",
        "objective": ["val/accuracy"],
        "directions": ["maximize"],
        "created": 100.0,
        "n_trials": 2,
        "finished": 200.0,
        "best": {"number": int(best.path.name), "value": value, "params": {}},
    }


def test_the_alias_names_the_best_version_of_all_studies(make_lab, uri: str, client) -> None:
    lab = make_lab("torch")
    runs = [lab.trained(epochs=1) for _ in range(3)]
    tracker = MLflowTracker(uri, registered_model_name="points")
    study = StudyDir(runs[0].path.parents[1])
    best = []
    for run, value in zip(runs, [0.5, 0.9, 0.7], strict=True):
        told(tracker, run)
        for parent in ({}, {}):  # as after a crash
            tracker.log_study(study, finished(run, value), parent)
        best.append(client.get_model_version_by_alias("points", "best").version)
    assert [int(version) for version in best] == [1, 2, 2]
    versions = client.search_model_versions("name = 'points'")
    assert sorted(float(one.tags["dlsweep.value"]) for one in versions) == [0.5, 0.7, 0.9]
    client.delete_model_version("points", "2")
    tracker.log_study(study, finished(runs[2], 0.7), {})
    assert int(client.get_model_version_by_alias("points", "best").version) == 3


def test_what_is_minimised_is_best_where_it_is_least(make_lab, uri: str, client) -> None:
    lab = make_lab("torch")
    runs = [lab.trained(epochs=1, monitor="val/loss", mode="min") for _ in range(2)]
    tracker = MLflowTracker(uri, registered_model_name="least")
    for run, value in zip(runs, [0.5, 0.9], strict=True):
        told(tracker, run)
        info = {**finished(run, value), "objective": ["val/loss"], "directions": ["minimize"]}
        tracker.log_study(StudyDir(run.path.parents[1]), info, {})
    assert int(client.get_model_version_by_alias("least", "best").version) == 1


def test_a_run_without_a_model_is_said_where_one_is_to_be_registered(
    make_run: Callable[..., RunDir], uri: str, client, capfd: pytest.CaptureFixture[str]
) -> None:
    run = make_run({"training": {"_target_": "mine.train"}}, number=None)
    state = told(MLflowTracker(uri), run)
    assert capfd.readouterr().err == ""
    state = told(MLflowTracker(uri, registered_model_name="none such"), run)
    assert f"{run.path} has no model to register as none such." in capfd.readouterr().err
    assert models_of(client, state) == []
    assert not client.search_registered_models("name = 'none such'")


def test_a_run_whose_data_was_not_in_memory_takes_what_its_loader_yields(
    make_lab, uri: str, client, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    lab = make_lab("torch")
    run = lab.trained(epochs=1)
    (run.path / "data.json").write_text('{"examples": {"train": 90, "validation": 30}}')
    (model_id,) = models_of(client, told(MLflowTracker(uri, log_model="all"), run))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    model = mlflow.pyfunc.load_model(f"models:/{model_id}")
    assert model.metadata.signature is None
    np.testing.assert_allclose(model.predict(INPUTS), expected(lab, run), rtol=1e-5, atol=1e-6)


def test_code_that_is_not_there_is_named_with_the_way_out(
    make_lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dlsweep.results.serving import ServedModel

    run = make_lab("torch").trained(epochs=1)
    text = run.config_file.read_text().replace("dlsweep.torch.MLP", "their_project.Net")
    run.config_file.write_text(text)
    with pytest.raises(ConfigError, match=r"'their_project.Net' cannot be .*[\s\S]*PYTHONPATH="):
        ServedModel(run.path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"log_model": True}, "log_model: Received True. Expected best, all or none"),
        ({"registered_model_name": "a/b"}, "Received 'a/b'. Expected a name of up to 256"),
        ({"registered_model_name": ""}, "Received ''. Expected a name"),
        ({"registered_model_name": ".."}, "Received '..'. Expected a name"),
        ({"registered_model_name": 3}, "Received 3. Expected a name"),
        (
            {"registered_model_name": "digits", "log_model": "none"},
            r"with log_model=none[\s\S]*Type  tracking\.mlflow\.log_model=best",
        ),
    ],
)
def test_options_that_mlflow_would_not_take_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"tracking\.mlflow\.[\s\S]*{message}"):
        MLflowTracker("sqlite:///m.db", **options)


@contextmanager
def serving(folder: Path, model: str) -> Iterator[int]:
    """``mlflow models serve`` on a port of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", model, "-p", str(port)]
    uvicorn = folder / "bin" / "uvicorn"  # which MLflow calls by its name, of whatever environment
    uvicorn.parent.mkdir()
    uvicorn.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m uvicorn "$@"\n')
    uvicorn.chmod(0o755)
    environment = {
        "PATH": f"{uvicorn.parent}:{os.environ['PATH']}",
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/outputs/mlflow.db",
    }
    log = folder / "serve.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [*command, "--env-manager", "local"],
            cwd=folder,
            env={**os.environ, **environment},
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 120
        while True:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5):
                    break
            except OSError:
                time.sleep(0.5)
        yield port
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def post(port: int, inputs: Any) -> Any:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/invocations",
        json.dumps({"inputs": inputs}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)["predictions"]


def test_mlflow_serves_the_best_trial_of_a_sweep(tmp_path: Path) -> None:
    (tmp_path / "their_nets.py").write_text(
        "from dlsweep.torch.models import MLP\n\ndef net(*args, **more):\n"
        "    return MLP(*args, **more)\n"
    )
    sweep = [
        *("+experiment=mnist", "training.epochs=1", "model._target_=their_nets.net"),
        *("tracking=[mlflow]", "tracking.mlflow.registered_model_name=digits"),
        *("training.optimizer.lr=0.001,0.01", "hydra.sweeper.study_name=digits", "-m"),
    ]
    command = [sys.executable, "-m", "dlsweep", *sweep]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    with serving(tmp_path, "models:/digits@best") as port:
        pixels = np.random.default_rng(0).integers(0, 256, (3, 1, 28, 28))
        answer = np.array(post(port, pixels.tolist()))
        with pytest.raises(urllib.error.HTTPError, match="400"):
            post(port, pixels[:, :, 1:].tolist())
    assert answer.shape == (3, 10)
    np.save(tmp_path / "pixels.npy", pixels.astype(np.uint8))
    (best,) = (tmp_path / "outputs").glob("digits/best.yaml")
    trial = best.read_text().partition("folder: ")[2].splitlines()[0]
    expected = directly(tmp_path, Path(trial))
    np.testing.assert_allclose(answer, expected, rtol=1e-4, atol=1e-5)


def directly(folder: Path, trial: Path) -> np.ndarray:
    """What the trial's model makes of the pixels where MLflow has no part in it."""
    facts = json.loads((trial / "data.json").read_text())
    np.save(
        folder / "x.npy", normalised(np.load(folder / "pixels.npy"), facts["mean"], facts["std"])
    )
    code = (
        "import sys, numpy as np, dlsweep; model = dlsweep.load_model(sys.argv[1])\n"
        "x = np.load('x.npy')\n"
        "import torch; np.save('y.npy', model(torch.from_numpy(x)).detach().numpy())"
    )
    subprocess.run([sys.executable, "-c", code, str(trial)], cwd=folder, check=True, timeout=120)
    return np.load(folder / "y.npy")
