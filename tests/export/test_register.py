"""Exports become versions of MLflow's registered models and W&B artifacts, with their lineage."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import importlib
import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from dlsweep.cli.main import main
from dlsweep.errors import ConfigError, StudyError, StudyLockedError, TrackerError
from dlsweep.export.register import Registration
from dlsweep.folders.lock import Lock
from dlsweep.folders.rundir import Result, RunDir
from dlsweep.security import addresses
from dlsweep.trackers import mirror
from dlsweep.trackers.exports import ExportedVersion
from dlsweep.trackers.mlflow.exports import register_export
from dlsweep.trackers.wandb.offline import read_offline

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]


@pytest.fixture(autouse=True)
def no_login(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of this machine's own W&B account is seen."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


@pytest.fixture
def uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    found = f"sqlite:///{tmp_path}/outputs/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", found)
    return found


@pytest.fixture
def client(uri: str) -> Any:
    from mlflow.tracking import MlflowClient

    return MlflowClient(uri)


@pytest.fixture
def options(uri: str) -> dict[str, Any]:
    return {
        "mlflow": {"_target_": "dlsweep.trackers.mlflow.MLflowTracker", "tracking_uri": uri},
        "wandb": {
            "_target_": "dlsweep.trackers.wandb.WandbTracker",
            "project": "pets",
            "mode": "offline",
        },
        "csv": {"_target_": "dlsweep.trackers.csv.CSVTracker"},
    }


def track(run: RunDir, tracking: dict[str, Any]) -> RunDir:
    """Makes a run look as if a driver had made it with these trackers."""
    record = {**json.loads(run.info_file.read_text()), "tracking": tracking}
    run.info_file.write_text(json.dumps(record))
    run.write_result(Result("completed", metrics={"val/accuracy": 0.9}, ended=100.0))
    return run


def run_of(folder: RunDir) -> str:
    """MLflow's id of the run that a run folder was synced to."""
    return str(json.loads(folder.mirror_file("mlflow").read_text())["state"]["run_id"])


def artifacts_of(run: RunDir) -> list[dict[str, Any]]:
    """The W&B artifacts of exported models, as the offline files have them."""
    folders = sorted((run.path.parents[1] / "wandb").glob(f"offline-run-*-{run.info().id}*"))
    records = [record for folder in folders for record in read_offline(folder)]
    assert {one["run"]["run_id"] for one in records if one["type"] == "run"} == {run.info().id}
    artifacts = [one["artifact"] for one in records if one["type"] == "artifact"]
    return [one for one in artifacts if one["type"] == "model"]


def command(monkeypatch: pytest.MonkeyPatch, run: RunDir, *arguments: str) -> int:
    """Runs the verb; returns its exit code."""
    monkeypatch.setattr(sys, "argv", ["dlsweep", "export", str(run.path), *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(str(ended.value))


def assert_same_files(kept: Path, folder: Path) -> None:
    for file in folder.rglob("*"):
        if file.is_file():
            assert (kept / file.relative_to(folder)).read_bytes() == file.read_bytes()


def pixels() -> Any:
    return importlib.import_module("project").images().validation.inputs


def test_a_version_has_its_lineage_files_figures_and_alias(
    lab: Any, options: Any, client: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    import mlflow
    import onnx

    run = track(lab.trained("torch", "images"), {"mlflow": options["mlflow"]})
    mirror.sync(run.path)
    arguments = ("--to", "onnx,torch", "--name", "pets", "--register", "digits")
    assert command(monkeypatch, run, *arguments) == 0
    out = capsys.readouterr().out
    assert "  registered in mlflow: models:/digits@champion, version 1\n" in out
    assert "  registered in mlflow: models:/digits/2\n" in out

    version = client.get_model_version_by_alias("digits", "champion")
    owner = client.get_run(run_of(run))
    folder = Path("exports/pets/onnx/1")
    report = json.loads((folder / "parity.json").read_text())
    assert (int(version.version), version.run_id) == (1, owner.info.run_id)
    assert owner.data.tags["dlsweep.run_id"] == run.info().id
    assert owner.info.status == "FINISHED"
    difference, accuracy = report["largest_difference"], report["accuracy"]["exported"]
    assert version.description == (
        f"Trial {run.path.name} of study as onnx (float32): the scores differ from the trained "
        f"model's by at most {difference:.2g}, accuracy {accuracy:.4g}."
    )
    model_id = version.tags["dlsweep.model_id"]
    assert version.tags == {
        "dlsweep.run_id": run.info().id,
        "dlsweep.digest": ExportedVersion(folder).digest,
        "dlsweep.study": "study",
        "dlsweep.trial": run.path.name,
        "dlsweep.export": "pets",
        "dlsweep.format": "onnx",
        "dlsweep.export_version": "1",
        "dlsweep.model_id": model_id,
    }
    logged = client.get_logged_model(model_id)
    assert (logged.status, logged.name) == ("READY", "pets-onnx-1")
    assert model_id in [one.model_id for one in owner.outputs.model_outputs]
    figures = {one.key: one.value for one in logged.metrics}
    assert figures["parity/largest_difference"] == difference
    assert figures["parity/agreement"] == report["agreement"] == 1
    assert figures["parity/accuracy"] == accuracy
    assert logged.params["format"] == "onnx"
    assert logged.params["runtime"] == report["runtime"]

    kept = Path(mlflow.artifacts.download_artifacts("models:/digits@champion"))
    assert_same_files(kept, folder)
    assert {"parity.json", "export.json", "labels.txt"} <= {one.name for one in kept.iterdir()}
    raw = pixels()
    expected = lab_scores(folder, {"inputs": raw})
    model = mlflow.pyfunc.load_model("models:/digits@champion")
    for given in (raw, {"inputs": raw}):
        answer = model.predict(given)
        np.testing.assert_array_equal(answer["scores"], expected[0])
        assert list(answer["label"]) == list(expected[1])
    with pytest.raises(mlflow.exceptions.MlflowException, match=r"\(-1, 2, 8, 8\)"):
        model.predict(raw[:, :1])
    onnx.checker.check_model(mlflow.onnx.load_model("models:/digits@champion"))
    packages = mlflow.pyfunc.get_model_dependencies("models:/digits@champion")
    names = {line.partition("==")[0] for line in Path(packages).read_text().splitlines()}
    assert names == {"mlflow", "onnx", "onnxruntime"}
    program = mlflow.pyfunc.load_model("models:/digits/2")
    np.testing.assert_allclose(program.predict(raw), expected[0], atol=1e-5)
    assert list(mirror.differences(run.path)) == []


def lab_scores(folder: Path, inputs: dict[str, Any]) -> list[Any]:
    """Scores, labels and probabilities where MLflow has no part in it."""
    import onnxruntime

    return onnxruntime.InferenceSession(folder / "model.onnx").run(None, inputs)


def test_wandb_has_the_files_as_an_artifact_of_the_run(
    lab: Any, options: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    run = track(lab.trained("torch", "images"), {"wandb": options["wandb"]})
    mirror.sync(run.path)
    arguments = ("--to", "onnx,torch", "--register", "digits", "--alias", "production")
    assert command(monkeypatch, run, *arguments) == 0
    shown = capsys.readouterr()
    assert "  registered in wandb: digits:production\n" in shown.out
    assert "  registered in wandb: digits:latest\n" in shown.out
    assert "wandb:" not in shown.err
    first, second = artifacts_of(run)
    assert [one["name"] for one in (first, second)] == ["digits", "digits"]
    assert (first["type"], first["run_id"]) == ("model", run.info().id)
    assert sorted(first["aliases"]) == ["latest", "production"]
    assert second["aliases"] == ["latest"]
    folder = Path("exports/study/onnx/1")
    metadata = json.loads(first["metadata"])
    assert metadata["parity"] == json.loads((folder / "parity.json").read_text())
    assert metadata["run"]["id"] == metadata["dlsweep.run_id"] == run.info().id
    assert metadata["labels"] == ["cat", "dog", "größe"]
    assert first["description"].startswith(f"Trial {run.path.name} of study as onnx")
    kept = {one["path"]: one for one in first["manifest"]["contents"]}
    assert set(kept) == {"model.onnx", "export.json", "parity.json", "labels.txt"}
    for name, one in kept.items():
        content = (folder / name).read_bytes()
        assert base64.b64decode(one["digest"]) == hashlib.md5(content).digest()
        assert Path(one["local_path"]).read_bytes() == content
    assert list(mirror.differences(run.path)) == []


def test_twice_is_once_in_every_tracker(lab: Any, options: Any, client: Any) -> None:
    tracking = {name: options[name] for name in ("mlflow", "wandb", "csv")}
    run, folder = lab.exported()
    mirror.sync(track(run, tracking).path)
    for _ in range(2):
        registration = Registration(run, "digits")
        for _ in range(2):
            assert list(registration.add(folder, is_champion=True)) == [
                "mlflow: models:/digits@champion, version 1",
                "wandb: digits:champion",
            ]
    assert len(client.search_model_versions("name = 'digits'")) == 1
    assert len(client.get_run(run_of(run)).outputs.model_outputs) == 1
    assert len(artifacts_of(run)) == 1
    history = client.get_metric_history(run_of(run), "parity/agreement")
    assert len(history) == 1


def test_the_alias_moves_to_the_newest_version_and_to_no_other_format(
    lab: Any, options: Any, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = track(lab.trained("torch", "images"), {"mlflow": options["mlflow"]})
    mirror.sync(run.path)
    formats = []
    for names in ("onnx,torch", "onnx"):
        assert command(monkeypatch, run, "--to", names, "--register", "digits") == 0
        champion = client.get_model_version_by_alias("digits", "champion")
        formats.append((int(champion.version), champion.tags["dlsweep.export_version"]))
        assert champion.tags["dlsweep.format"] == "onnx"
    assert formats == [(1, "1"), (3, "2")]


def test_the_best_trained_model_keeps_its_alias_beside_exports(
    lab: Any, options: Any, client: Any
) -> None:
    run, folder = lab.exported()
    track(run, {})
    record = json.loads(run.info_file.read_text())
    named = {"mlflow": {**options["mlflow"], "registered_model_name": "digits"}}
    run.info_file.write_text(json.dumps({**record, "number": None, "tracking": named}))
    mirror.sync(run.path)
    list(Registration(run, "digits").add(folder, is_champion=True))
    assert list(mirror.differences(run.path)) == []
    mirror.sync(run.path)
    found = {
        name: client.get_model_version_by_alias("digits", name) for name in ("best", "champion")
    }
    assert [int(one.version) for one in found.values()] == [1, 2]
    assert found["champion"].description.startswith(f"Run {run.path.name} of study as onnx")


def test_registering_imports_no_framework_and_says_nothing(lab: Any, options: Any) -> None:
    tracking = {name: options[name] for name in ("mlflow", "wandb")}
    run, folder = lab.exported()
    mirror.sync(track(run, tracking).path)
    code = (
        "import sys; from pathlib import Path\n"
        "from dlsweep.export.register import Registration\n"
        "from dlsweep.folders.rundir import RunDir\n"
        "registration = Registration(RunDir(sys.argv[1]), 'digits')\n"
        "print(*registration.add(Path(sys.argv[2]), is_champion=True), sep='; ')\n"
        "print(*{'torch', 'tensorflow', 'keras', 'onnx', 'onnxruntime'} & {*sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(run.path), str(folder)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    shown = "mlflow: models:/digits@champion, version 1; wandb: digits:champion\n\n"
    assert (done.stdout, done.stderr) == (shown, "")


def test_a_crash_before_any_call_leaves_one_version(
    lab: Any, options: Any, client: Any, dying: Any
) -> None:
    run, folder = lab.exported()
    mirror.sync(track(run, {"mlflow": options["mlflow"]}).path)
    export = ExportedVersion(folder)
    crashes = 0
    while True:
        try:
            register_export(dying(client, crashes), run_of(run), run, export, "digits", "champion")
            break
        except dying.Crash:
            crashes += 1
    assert crashes > 8
    (version,) = client.search_model_versions("name = 'digits'")
    assert client.get_model_version_by_alias("digits", "champion").version == version.version
    logged = client.get_logged_model(version.tags["dlsweep.model_id"])
    assert len(logged.metrics) == len(export.figures()) == 4


def test_mlflow_serves_a_savedmodel_and_keras_and_keeps_litert(
    lab: Any, options: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    run = track(lab.trained("keras", "images"), {"mlflow": options["mlflow"]})
    mirror.sync(run.path)
    arguments = ("--to", "savedmodel,keras,litert,onnx", "--register", "pets", "--name", "pets")
    assert command(monkeypatch, run, *arguments) == 0
    raw = pixels()
    expected = lab_scores(Path("exports/pets/onnx/1"), {"inputs": raw})[0]
    saved_model = mlflow.pyfunc.load_model("models:/pets@champion").predict(raw)
    assert list(saved_model) == ["scores"]
    np.testing.assert_allclose(saved_model["scores"], expected, atol=1e-4)
    answer = mlflow.pyfunc.load_model("models:/pets/2").predict(raw)
    np.testing.assert_allclose(answer, expected, atol=1e-4)
    kept = Path(mlflow.artifacts.download_artifacts("models:/pets/3"))
    assert_same_files(kept, Path("exports/pets/litert/1"))
    flavors = mlflow.models.Model.load(str(kept)).flavors
    assert flavors == {"litert": {"data": "model.tflite"}}
    kept = Path(mlflow.artifacts.download_artifacts("models:/pets@champion"))
    assert_same_files(kept, Path("exports/pets/savedmodel/1"))


def test_words_of_a_table_are_served_as_they_are(
    lab: Any, options: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow
    from mlflow.pyfunc import scoring_server

    run = track(lab.trained("torch", "table", epochs=60), {"mlflow": options["mlflow"]})
    mirror.sync(run.path)
    assert command(monkeypatch, run, "--register", "answers") == 0
    model = mlflow.pyfunc.load_model("models:/answers@champion")
    monkeypatch.setenv("_MLFLOW_IS_IN_SERVING_ENVIRONMENT", "true")  # which init sets for good
    rows = {"colour__r_g_": ["red", "blå", "red"], "size": [7, 7, 0]}
    answer = asyncio.run(post(scoring_server.init(model), {"inputs": rows}))
    assert answer["predictions"]["label"] == ["yes", "no", "no"]


async def post(server: Any, body: Any) -> Any:
    """What MLflow's scoring server answers."""
    transport = httpx.ASGITransport(server)
    async with httpx.AsyncClient(transport=transport, base_url="http://mlflow") as client:
        return (await client.post("/invocations", json=body)).json()


def test_a_program_of_several_inputs_is_kept_with_its_format(
    lab: Any, options: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    run = track(lab.trained("torch", "two_inputs"), {"mlflow": options["mlflow"]})
    mirror.sync(run.path)
    assert command(monkeypatch, run, "--to", "onnx,torch", "--register", "both") == 0
    inputs = importlib.import_module("project").two_inputs().validation.inputs
    given = {name: array.astype(np.float32) for name, array in inputs.items()}
    answer = mlflow.pyfunc.load_model("models:/both@champion").predict(given)
    assert answer["scores"].shape == (30, 2)
    kept = mlflow.models.get_model_info("models:/both/2")
    assert kept.flavors == {"torch": {"data": "model.pt2"}}
    assert kept.signature.inputs.input_names() == ["left", "right"]


def test_a_tracker_that_sync_has_added_is_one_of_the_run(
    lab: Any, options: Any, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = track(lab.trained("torch", "images"), {"csv": options["csv"]})
    mirror.sync(run.path, ["mlflow"], {"mlflow": options["mlflow"]})
    assert command(monkeypatch, run, "--register", "digits") == 0
    assert client.get_model_version_by_alias("digits", "champion").run_id == run_of(run)


def refused(run: RunDir, error: type[Exception], message: str, *names: str) -> None:
    """Checks that a registration is refused."""
    with pytest.raises(error, match=message):
        Registration(run, *(names or ("digits",)))


@pytest.mark.parametrize(
    ("chosen", "known"), [((), "nothing"), (("csv",), "csv")], ids=["none", "csv"]
)
def test_a_run_without_a_registry_is_refused_with_what_to_type(
    lab: Any, options: Any, chosen: tuple[str], known: str, monkeypatch: Any, capsys: Any
) -> None:
    run = track(lab.run("torch", "images"), {name: options[name] for name in chosen})
    assert command(monkeypatch, run, "--register", "digits") == 1
    shown = capsys.readouterr().err
    assert f"is tracked by {known}. Expected mlflow or wandb, which register models.\n" in shown
    assert f"Sync it first:  python -m dlsweep sync {run.path} mlflow\n" in shown
    assert not Path("exports").exists()


def test_a_run_that_is_not_synced_is_refused(lab: Any, options: Any) -> None:
    tracking = {name: options[name] for name in ("mlflow", "wandb")}
    run = track(lab.run("torch", "images"), tracking)
    way_out = rf"Sync it first:  python -m dlsweep sync {run.path} "
    refused(run, StudyError, rf"is not synced to mlflow, wandb\.\n{way_out}mlflow wandb$")
    mirror.sync(run.path, ["mlflow"])
    refused(run, StudyError, rf"is not synced to wandb\.\n{way_out}wandb$")


def test_a_view_that_is_gone_is_refused(lab: Any, options: Any, client: Any) -> None:
    tracking = {name: options[name] for name in ("mlflow", "wandb")}
    run = track(lab.trained("torch", "images"), tracking)
    mirror.sync(run.path)
    client.delete_run(run_of(run))
    refused(run, TrackerError, r"mlflow: The MLflow run .* is no longer in .*\nSync it first:  ")
    mirror.sync(run.path)
    Registration(run, "digits")
    shutil.rmtree(run.path.parents[1] / "wandb")
    refused(run, TrackerError, r"wandb: W&B's files of .* contain 0 rows.*\nSync it first:  ")


def test_an_address_that_only_the_folder_names_is_not_contacted(lab: Any, options: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        stranger.settimeout(0.0)
        address = f"http://127.0.0.1:{stranger.getsockname()[1]}"
        theirs = {"mlflow": {**options["mlflow"], "tracking_uri": address}}
        run = track(lab.run("torch", "images"), theirs)
        refused(run, ConfigError, f"names tracking.mlflow.tracking_uri={address}, which no command")
        track(run, {"mlflow": options["mlflow"]})
        mirror.sync(run.path)
        position = json.loads(run.mirror_file("mlflow").read_text())
        position["options"]["tracking_uri"] = address
        run.mirror_file("mlflow").write_text(json.dumps(position))
        refused(run, ConfigError, f"names tracking.mlflow.tracking_uri={address}, which no command")
        with pytest.raises(BlockingIOError):
            stranger.accept()


def test_a_server_that_is_away_is_said_before_the_export(
    lab: Any, options: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    away = {"mlflow": {**options["mlflow"], "tracking_uri": address}}
    run = track(lab.run("torch", "images"), away)
    addresses.remember({"tracking": away}, run.path)
    run.mirror_file("mlflow").parent.mkdir()
    position = {"options": away["mlflow"], "state": {"run_id": "a" * 32}}
    run.mirror_file("mlflow").write_text(json.dumps(position))
    assert command(monkeypatch, run, "--register", "digits") == 1
    assert "mlflow: The MLflow server 127.0.0.1" in capsys.readouterr().err
    assert not Path("exports").exists()


def test_a_tracker_that_fails_later_leaves_the_export(
    lab: Any, options: Any, client: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    run = track(lab.trained("torch", "images"), {"mlflow": options["mlflow"]})
    mirror.sync(run.path)
    client.create_registered_model("digits")
    client.set_registered_model_tag("digits", "mlflow.prompt.is_prompt", "true")
    assert command(monkeypatch, run, "--register", "digits") == 1
    shown = capsys.readouterr()
    assert "exports/study/onnx/1 is exported, but not registered.\nmlflow: " in shown.err
    assert "exports/study/onnx/1" in shown.out
    assert Path("exports/study/onnx/1/model.onnx").exists()


@pytest.mark.parametrize("text", ["[]", "5", '{"options": 5, "state": {"run_id": 3}}', '{"a": 1}'])
def test_a_damaged_file_of_the_mirror_is_named(lab: Any, options: Any, text: str) -> None:
    run = track(lab.run("torch", "images"), {"mlflow": options["mlflow"]})
    run.mirror_file("mlflow").parent.mkdir()
    run.mirror_file("mlflow").write_text(text)
    refused(run, StudyError, r"mirror/mlflow\.json is damaged: [\s\S]*\nRemove it, and sync")


def test_a_run_that_is_being_synced_is_refused(
    lab: Any, options: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = track(lab.run("torch", "images"), {"mlflow": options["mlflow"]})
    mirror.sync(run.path)
    monkeypatch.setattr("dlsweep.trackers.registries._LOCK_PATIENCE", 0.0)
    lock = Lock(run.path / "mirror" / "mlflow.lock")
    assert lock.acquire()
    try:
        refused(run, StudyLockedError, "is being mirrored to mlflow by process")
    finally:
        lock.release()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("",), r"--register: Received ''\. Expected up to 128 letters"),
        (("a/b",), r"--register: Received 'a/b'\."),
        (("größe",), r"--register: Received 'größe'\."),
        (("digits", "latest"), r"--alias: Received 'latest'\. Expected .* as champion\."),
        (("digits", "best"), r"--alias: Received 'best'\."),
        (("digits", "V12"), r"--alias: Received 'V12'\."),
        (("digits", "a:b"), r"--alias: Received 'a:b'\."),
        (("digits", ""), r"--alias: Received ''\."),
    ],
)
def test_names_that_a_tracker_would_not_take_are_refused(
    lab: Any, options: Any, names: tuple[str, ...], message: str
) -> None:
    run = track(lab.run("torch", "images"), {"mlflow": options["mlflow"]})
    refused(run, ConfigError, message, *names)


def test_an_alias_alone_is_refused(lab: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    run = lab.run("torch", "images")
    assert command(monkeypatch, run, "--alias", "production") == 1
    assert "--alias: Received 'production' without --register." in capsys.readouterr().err
