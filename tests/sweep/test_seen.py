"""What a sampler sees: earlier trials first, paused trials as pruned ones while they wait."""

from __future__ import annotations

import optuna
from optuna.trial import TrialState

from dlsweep.sweep.seen import SeenStorage, SeenStudy


def test_a_paused_trial_is_seen_as_pruned_only_until_it_goes_on() -> None:
    storage = SeenStorage(optuna.storages.InMemoryStorage(), "study", ["minimize"])
    study = optuna.load_study(study_name="study", storage=storage)
    earlier = [optuna.trial.create_trial(value=1.0)]
    seen = SeenStudy("study", storage, earlier)
    trial = study.ask()
    trial.report(3.0, 1)
    with storage.seen_as_pruned([trial.number]):
        first, own = seen.get_trials(deepcopy=False)
        assert (first.value, own.number, own.state) == (1.0, 1, TrialState.PRUNED)
        assert own.intermediate_values == {1: 3.0}
    assert seen.get_trials(deepcopy=False)[1].state is TrialState.RUNNING
    trial.report(2.0, 3)
    study.tell(trial, 2.0)
    own = seen.get_trials(deepcopy=False)[1]
    assert (own.state, own.value) == (TrialState.COMPLETE, 2.0)
    assert own.intermediate_values == {1: 3.0, 3: 2.0}
    assert seen.get_trials(deepcopy=False)[1] is own, "a finished trial is copied once"
