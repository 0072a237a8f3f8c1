"""Secrets reach no record, no log and no tracker."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from dlsweep.errors import ConfigError
from dlsweep.security import secrets

KEY = "sk-4f9a8b7c6d5e4f3a2b1c"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUD_API_KEY", KEY)
    monkeypatch.setenv("MY_LOGIN", "margaret-1234")
    monkeypatch.setenv("DATA_FOLDER", os.getcwd())


@pytest.mark.parametrize(
    "config",
    [
        {"data": {"password": "x"}},
        {"data": {"api_key": "x"}},
        {"tracking": {"wandb": {"token": "ghp_0123456789abcdef"}}},
        {"framework": {"env": {"HF_TOKEN": "hf_0123456789abcdefgh"}}},
        {"tracking": {"mlflow": {"tracking_uri": "https://me:pw@host:5000"}}},
        {"hydra": {"sweeper": {"storage": "postgresql://me:pw@host/db"}}},
        {"data": {"headers": ["Bearer " + KEY]}},
    ],
)
def test_a_secret_in_clear_is_refused_without_being_shown(config: dict) -> None:
    with pytest.raises(ConfigError, match="contains a secret in clear") as raised:
        secrets.check(OmegaConf.create(config))
    assert "export " in str(raised.value)
    assert not any(text in str(raised.value) for text in (KEY, "pw@", "hf_0", "ghp_"))


def test_a_secret_in_the_space_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data.password contains a secret"):
        secrets.check(OmegaConf.create({}), ["+data.password=a,b"])


@pytest.mark.parametrize(
    "config",
    [
        {"data": {"token": "${oc.env:MY_LOGIN}"}},
        {"model": {"pad_token": "<pad>", "eos_token": "</s>", "max_tokens": 512}},
        {"model": {"bypass": "relu", "tokenizer": "bpe"}},
        {"data": {"password": None, "secret": "???"}},
        {"tracking": {"mlflow": {"tracking_uri": "http://host:5000/path@x"}}},
        {"hydra": {"sweeper": {"storage": "postgresql://me:${oc.env:PW}@host/db"}}},
    ],
)
def test_references_and_plain_words_are_no_secrets(config: dict) -> None:
    secrets.check(OmegaConf.create(config))


def test_what_is_printed_is_scrubbed() -> None:
    config = "login: ${oc.env:MY_LOGIN}\nfolder: ${oc.env:DATA_FOLDER}\n"
    text = f"{KEY} margaret-1234 {os.getcwd()} https://me:pw@host/ a:b@c"
    assert secrets.scrub(text, config) == f"*** *** {os.getcwd()} https://me:***@host/ a:b@c"
    assert "margaret" in secrets.scrub(text)


TRAIN = """
import os, sys
def train(run, cfg):
    print("login", cfg.login, "key", os.environ["CLOUD_API_KEY"])
    print("at", "postgresql://me:hunter22@host/db", file=sys.stderr)
    run.log({"val/loss": 1.0}, step=1)
    if cfg.training.fail:
        raise RuntimeError(f"no answer for {cfg.login} with {os.environ['CLOUD_API_KEY']}")
    return {"val/loss": 1.0}
"""
CONFIG = """
# @package _global_
defaults: [{override /framework: none}, {override /model: none}, {override /data: none}, \
{override /training: function}]
login: ${oc.env:MY_LOGIN}
plain: {from: "${login}", url: "https://${oc.env:MY_LOGIN}@host"}
training: {_target_: mine.train, fail: false}
framework: {env: {REMOTE_LOGIN: "${oc.env:MY_LOGIN}"}}
tracking: {csv: {_target_: "${oc.env:CSV_TARGET}"}}
hydra:
  job: {env_set: {OTHER_LOGIN: "${oc.env:MY_LOGIN}"}}
  sweeper:
    storage: sqlite:///${oc.env:STUDY_LOGIN}.db
    max_failure_rate: 1.0
    params: {training.fail: "false,true"}
"""


PLANTED = {
    "WANDB_API_KEY": "0123456789abcdef0123456789abcdef01234567",
    "STUDY_LOGIN": "study-9876",
    "CSV_TARGET": "dlsweep.trackers.csv.CSVTracker",
}


@pytest.mark.slow
def test_secrets_planted_everywhere_reach_no_file(tmp_path: Path) -> None:
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf" / "experiment" / "planted.yaml").write_text(CONFIG)
    (tmp_path / "mine.py").write_text(TRAIN)
    trackers = "tracking=[mlflow,tensorboard,wandb,csv]"
    done = subprocess.run(
        [sys.executable, "-m", "dlsweep", "+experiment=planted", trackers, "-m"],
        cwd=tmp_path,
        env={**os.environ, "WANDB_MODE": "offline", **PLANTED},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    planted = [KEY, "margaret-1234", "hunter22", *PLANTED.values()]
    written = {"stdout": done.stdout.encode(), "stderr": done.stderr.encode()}
    files = (path for path in (tmp_path / "outputs").rglob("*") if path.is_file())
    for file in (path for path in files if not path.is_symlink()):  # links to the user's code
        written[str(file)] = file.read_bytes()
    found = {
        (name, secret)
        for name, text in written.items()
        for secret in planted
        if secret.encode() in text
    }
    assert not found
    assert len([name for name in written if name.endswith((".wandb", "log.txt"))]) >= 4
    assert any(b"login ***" in text for text in written.values())


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://me:hunter2@host/db",
        "postgresql+psycopg://${oc.env:ME}:hunter2@host/db",
        "postgresql+psycopg:///db?host=here&password=hunter2",
    ],
)
def test_a_password_in_the_url_of_a_database_is_refused_with_where_to_put_it(url: str) -> None:
    with pytest.raises(ConfigError, match=r"PGPASSWORD=… .* PGPASSFILE=") as raised:
        secrets.check_database("hydra.sweeper.storage", url)
    assert "hunter2" not in str(raised.value)
    assert "hunter2" not in secrets.scrub(f"cannot open {url}")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "sqlite:///a@b:c.db",
        "postgresql+psycopg://me@host/db",
        "postgresql://me:${oc.env:PW}@h/db",
    ],
)
def test_other_urls_of_databases_are_not(url: str) -> None:
    secrets.check_database("hydra.sweeper.storage", url)


def test_the_password_of_postgresql_is_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "correct-horse")
    assert secrets.scrub("it is correct-horse") == "it is ***"


def test_a_reference_to_a_variable_that_is_not_set_is_a_sentence() -> None:
    with pytest.raises(ConfigError, match=r"variable NO_SUCH_PW, which is not set\.\nSet it:"):
        secrets.resolved("postgresql://me:${oc.env:NO_SUCH_PW}@host/db")
