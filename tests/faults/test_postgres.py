"""A study in PostgreSQL: whatever is killed, the server included, nothing is lost or doubled."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import optuna
import psycopg
import pytest
from postgres_server import USER, Server, running_server

from dlsweep.errors import ConfigError, MissingExtraError, StudyError
from dlsweep.results import tables, verify
from dlsweep.results.database import open_storage
from dlsweep.sweep.storage import OneWriterStorage

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
WALK = ("training._target_=walk.train", "training.seconds=0.05", "-m")
ONE_SLOT = (*WALK, "tracking=none", "hydra.sweeper.n_trials=8", "hydra.sweeper.n_jobs=1")
COLUMNS = ["number", "state", "val/loss", "training.x", "training.y"]
SAID = "The study's database does not answer: "
PASSWORD = "correct-horse-battery"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server() as running:
        yield running


def stored(server: Server, database: str, name: str) -> list[tuple[object, ...]]:
    """Each trial of a study in the database: its number, state and last reported step."""
    return server.ask(
        database,
        "SELECT number, state::text, max(step) FROM trials JOIN studies USING (study_id) "
        "LEFT JOIN trial_intermediate_values USING (trial_id) "
        f"WHERE study_name = '{name}' GROUP BY number, state ORDER BY number",
    )


def assert_exactly_once(sweeps, server: Server, database: str, name: str, count: int) -> None:
    sweeps.assert_trials(name, count)
    trials = stored(server, database, name)
    assert [number for number, *_ in trials] == list(range(count))
    assert {state for _, state, _ in trials} <= {"COMPLETE", "PRUNED"}
    for folder, (_, state, step) in zip(sweeps.trials(name), trials, strict=True):
        lines = (folder / "records.jsonl").read_text().splitlines()
        assert step == json.loads(lines[-1])["step"], folder
        result = json.loads((folder / "result.json").read_text())
        assert result["status"] == {"COMPLETE": "completed", "PRUNED": "pruned"}[str(state)]
    assert verify.main(sweeps.study(name), [], repair=False) == 0


def wait_until(true, what: str) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def test_all_who_open_an_empty_database_at_once_get_it(server) -> None:
    url = server.create("empty")
    together = threading.Barrier(6)

    def opened(_: int) -> int:
        together.wait()
        return len(open_storage(url).get_all_studies())

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(opened, range(6))) == [0] * 6


@pytest.mark.parametrize(
    ("database", "user", "password", "said"),
    [
        ("nowhere", "postgres", "", 'database "nowhere" does not exist'),
        ("postgres", "guarded", "wrong-one", "password authentication failed"),
        ("postgres", "guarded", "", "no password supplied"),
    ],
)
def test_a_database_that_cannot_be_opened_is_a_sentence(
    server, monkeypatch, database, user, password, said
) -> None:
    with contextlib.suppress(Exception):
        server.demand_password("guarded", PASSWORD)
    monkeypatch.setenv("PGPASSWORD", password)
    expected = rf"guarded|postgres@\S+ cannot be opened: .*{said}\nExpected .* PGPASSFILE names"
    with pytest.raises(StudyError, match=expected):
        open_storage(server.url(database, user))


def test_no_server_and_no_package_are_sentences(server, monkeypatch) -> None:
    with pytest.raises(StudyError, match="Connection refused"):
        open_storage("postgresql+psycopg://me@127.0.0.1:1/study")
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'dlsweep\[postgres\]'"):
        open_storage(server.url("postgres"))


def test_kills_of_all_processes_change_nothing(sweeps, undisturbed, server, times) -> None:
    url = server.create("kills")
    undisturbed.run(*ONE_SLOT)
    expected = undisturbed.table("quadratic")[COLUMNS]
    asked = (*ONE_SLOT, f"hydra.sweeper.storage={url}")
    kills = times("kills of the driver and all trials, with PostgreSQL")
    assert sweeps.kill_at_random("kills of the driver and all trials", kills, *asked)
    assert_exactly_once(sweeps, server, "kills", "quadratic", len(expected))
    assert sweeps.table("quadratic")[COLUMNS].equals(expected)


@pytest.mark.parametrize("how", ["killed", "suspended"])
def test_a_server_that_is_away_is_waited_for(sweeps, server, times, how) -> None:
    url = f"{server.create(how)}?tcp_user_timeout=2000"
    sweep = sweeps.start(
        *WALK,
        "tracking=none",
        "training.steps=40",
        "hydra.sweeper.n_trials=6",
        f"hydra.sweeper.storage='{url}'",
    )
    trials = sweeps.study("quadratic") / "trials"

    def recorded() -> Counter[str]:
        files = trials.glob("*/records.jsonl")
        return Counter({str(file): file.stat().st_size for file in files})

    lines = []
    for _ in range(times(f"times that PostgreSQL is {how}")):
        before = recorded()
        wait_until(lambda before=before: recorded() - before, "no trial trains")
        with getattr(server, how)():
            for line in sweep.stdout:
                lines.append(line)
                if SAID in line:
                    break
            before = recorded()
            wait_until(lambda before=before: recorded() - before, "no trial has gone on")
            time.sleep(sweeps.dice.uniform(0, 3))
    output = "".join([*lines, sweep.communicate()[0]])
    assert sweep.returncode == 0, output
    assert output.count("The database answers again") == output.count(SAID) > 0, output
    assert_exactly_once(sweeps, server, how, "quadratic", 6)


def test_a_suspended_server_is_a_sentence(server) -> None:
    with server.suspended(), pytest.raises(StudyError, match=r"cannot be opened: .*timeout"):
        open_storage(f"{server.url('postgres')}?connect_timeout=2")


def test_a_commit_that_comes_late_doubles_no_trial(server) -> None:
    """A server that was suspended may carry out a commit whose client has given up."""
    url = server.create("late")
    disk = open_storage(f"{url}?tcp_user_timeout=1000", keep_connection=True)
    storage = OneWriterStorage(disk, "study", ["minimize"])
    optuna.load_study(study_name="study", storage=storage).ask()
    with psycopg.connect(url.replace("+psycopg", "")) as late:
        late.execute("SELECT 1 FROM studies FOR UPDATE")
        late.execute("INSERT INTO trials (number, study_id, state) VALUES (0, 1, 'RUNNING')")
        with server.suspended():
            assert not storage.flush()
        assert storage.outage

        def stored() -> None:
            while not storage.flush():
                time.sleep(0.01)

        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(stored)
            waiting = "SELECT 1 FROM pg_locks WHERE NOT granted"
            wait_until(lambda: server.ask("late", waiting), "the driver does not wait")
            late.commit()
            done.result()
    assert server.ask("late", "SELECT number FROM trials") == [(0,)]
    storage.close()


def test_a_sweep_stops_while_it_waits_and_the_same_command_goes_on(sweeps, server) -> None:
    url = server.create("stopped")
    asked = (*WALK, "tracking=none", "hydra.sweeper.n_trials=5", "hydra.sweeper.n_jobs=2")
    asked = (*asked, f"hydra.sweeper.storage={url}")
    sweep = sweeps.start(*asked)
    wait_until(lambda: list(sweeps.study("quadratic").glob("trials/0001/work.txt")), "no trial")
    with server.killed():
        ends = sweeps.study("quadratic") / "trials"
        wait_until(lambda: len(list(ends.glob("*/result.json"))) == 2, "trials do not end")
        time.sleep(0.5)
        assert len(list(ends.iterdir())) == 2, "a trial was launched that is not stored"
        sweep.send_signal(signal.SIGTERM)
        output, _ = sweep.communicate(timeout=60)
    assert sweep.returncode == 0, output
    assert "The database has not answered for" in output
    assert "3 trials are missing; the same command resumes the sweep." in output
    sweeps.run(*asked)
    assert_exactly_once(sweeps, server, "stopped", "quadratic", 5)


def test_the_password_stays_in_the_environment(sweeps, server, monkeypatch, capsys) -> None:
    with contextlib.suppress(Exception):
        server.demand_password("guarded", PASSWORD)
    url = server.create("secret").replace("postgres@", "guarded:${oc.env:STUDY_PW}@")
    monkeypatch.setenv("STUDY_PW", PASSWORD)
    sweep = sweeps.start(
        *WALK, "tracking=[csv]", "hydra.sweeper.n_trials=2", f"hydra.sweeper.storage='{url}'"
    )
    commands = ""
    while sweep.poll() is None:
        for process in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                commands += process.read_text()
        time.sleep(0.2)
    output = sweep.communicate()[0]
    assert sweep.returncode == 0, output
    study = sweeps.study("quadratic")
    assert verify.main(study, [], repair=False) == 0
    tables.main([study])
    assert "dlsweep" in commands
    assert PASSWORD not in commands + output + "".join(capsys.readouterr())
    for file in sweeps.path.rglob("*"):
        assert not file.is_file() or PASSWORD.encode() not in file.read_bytes(), file
    assert "${oc.env:STUDY_PW}" in (study / "study.json").read_text()
    monkeypatch.delenv("STUDY_PW")
    with pytest.raises(ConfigError, match="environment variable STUDY_PW, which is not set"):
        tables.main([study])


def test_the_commands_of_the_page_work(sweeps, server, monkeypatch) -> None:
    page = (Path(__file__).parents[2] / "docs" / "scale.md").read_text()
    block = re.search(r"```bash\n(.*?)```", page, re.DOTALL)
    assert block
    commands = block[1].splitlines()
    assert commands[0] == "pip install 'dlsweep[postgres]'"
    for name, value in {"PGHOST": "127.0.0.1", "PGPORT": str(server.port), "PGUSER": USER}.items():
        monkeypatch.setenv(name, value)
    tools = f"{server.programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    for command in commands[1:]:
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=sweeps.path,
            env={**os.environ, "PATH": tools},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
    assert len(stored(server, "studies", "quadratic")) == 20
