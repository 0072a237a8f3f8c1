"""The study in memory and the study on disk are one and the same."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.testing.pytest_storages import StorageTestCase
from optuna.trial import FrozenTrial, TrialState

from dlsweep.results.database import AwayError
from dlsweep.sweep.storage import OneWriterStorage


@pytest.fixture
def disk(tmp_path: Path) -> optuna.storages.BaseStorage:
    return optuna.storages.get_storage(f"sqlite:///{tmp_path}/study.db")


def opened(disk: optuna.storages.BaseStorage) -> tuple[OneWriterStorage, optuna.Study]:
    storage = OneWriterStorage(disk, "study", ["minimize"])
    pruner = optuna.pruners.HyperbandPruner(max_resource=9)
    return storage, optuna.load_study(study_name="study", storage=storage, pruner=pruner)


def plain(trial: FrozenTrial) -> dict[str, Any]:
    """All but the ids, which differ, and the moments, which both note down on their own."""
    fields = {name.lstrip("_"): value for name, value in vars(trial).items()}
    return {k: v for k, v in fields.items() if k != "trial_id" and "datetime" not in k}


def test_what_is_written_is_in_memory_and_on_disk(disk) -> None:
    storage, study = opened(disk)
    study.set_user_attr("identity", {"a": "1"})
    study.enqueue_trial({"x": 3.0})
    storage.flush()
    for value in (1.0, 2.0, 3.0):
        trial = study.ask()
        trial.suggest_float("x", 0, 10)
        trial.suggest_categorical("c", ["a", "b"])
        trial.set_user_attr("point", {"x": value})
        storage.flush()
        for step in range(1, 6):
            trial.report(value * step, step)
            trial.should_prune()
        study.tell(trial, value)
    study.tell(study.ask(), state=TrialState.FAIL)
    storage.flush()
    stored = optuna.load_study(study_name="study", storage=disk)
    assert [plain(t) for t in stored.trials] == [plain(t) for t in study.trials]
    assert stored.user_attrs == study.user_attrs
    assert any(key.startswith("completed_rung") for key in stored.trials[1].system_attrs)
    again = opened(disk)[1]
    assert [plain(t) for t in again.trials] == [plain(t) for t in study.trials]
    assert again.best_trial.number == study.best_trial.number


def test_a_trial_is_on_disk_whole_or_not_at_all(disk) -> None:
    storage, study = opened(disk)
    trial = study.ask()
    trial.suggest_float("x", 0, 10)
    assert disk.get_all_trials(1) == []
    storage.flush()
    (stored,) = disk.get_all_trials(1)
    assert stored.params == trial.params
    assert stored.state is TrialState.RUNNING
    storage.flush()
    assert len(disk.get_all_trials(1)) == 1


class Away:
    """A storage on a server that is killed at one of its calls, before or after it is done."""

    def __init__(self, disk: optuna.storages.BaseStorage, dies_at: int, after: bool) -> None:
        self._disk = disk
        self._left = dies_at
        self._after = after

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._disk, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self._left -= 1
            if self._left == 0 and not self._after:
                raise AwayError("killed")
            done = method(*args, **kwargs)
            if self._left == 0:
                raise AwayError("killed")
            return done

        return call if name.startswith(("set_", "create_new_trial")) else method


def session(study: optuna.Study, storage: OneWriterStorage) -> int:
    """Does what a sweep does; returns how often the storage was behind."""
    behind = 0

    def flush() -> None:
        nonlocal behind
        behind += storage.outage is not None
        if storage.outage:
            assert not storage.flush(), "it was tried again at once"
            storage.outage.retry_at = 0.0
        while not storage.flush():
            behind += 1
            assert storage.outage
            storage.outage.retry_at = 0.0
        assert storage.outage is None

    study.set_user_attr("identity", {"a": "1"})
    study.enqueue_trial({"x": 3.0})
    flush()
    for value in (1.0, 2.0):
        trial = study.ask()
        trial.suggest_float("x", 0, 10)
        trial.set_user_attr("point", {"x": value})
        flush()
        for step in range(1, 4):
            trial.report(value * step, step)
            trial.should_prune()
        trial.set_user_attr("reason", "none")
        study.tell(trial, value)
    flush()
    return behind


@pytest.mark.parametrize("after", [False, True], ids=["undone", "done"])
def test_a_server_killed_at_any_call_loses_and_doubles_nothing(tmp_path, after: bool) -> None:
    deaths = 0
    optuna.storages.get_storage(f"sqlite:///{tmp_path}/empty.db")
    for dies_at in range(1, 100):
        shutil.copy(tmp_path / "empty.db", tmp_path / f"{dies_at}.db")
        disk = optuna.storages.get_storage(f"sqlite:///{tmp_path}/{dies_at}.db")
        storage, study = opened(Away(disk, dies_at, after))
        if not session(study, storage):
            break
        deaths += 1
        stored = optuna.load_study(study_name="study", storage=disk)
        assert [plain(t) for t in stored.trials] == [plain(t) for t in study.trials]
        assert len(stored.trials) == 2
        assert stored.user_attrs == study.user_attrs
    assert deaths > 15


@pytest.mark.slow
class TestOptunasContract(StorageTestCase):
    """Optuna's own tests of a storage, less three that begin with an empty one: here is a study."""

    test_create_new_study = None
    test_create_new_study_unique_id = None
    test_get_all_studies = None

    @pytest.fixture
    def storage(self, disk) -> OneWriterStorage:
        return OneWriterStorage(disk, "study", ["minimize"])
