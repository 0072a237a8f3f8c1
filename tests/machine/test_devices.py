"""A machine is cut into slots that share nothing."""

from __future__ import annotations

import pytest

from dlsweep.errors import ConfigError, DeviceError, DlsweepError
from dlsweep.machine.devices import Slot, cpu_count, cut_slots, gpu_names

CPUS = cpu_count()


def test_without_gpus_every_core_is_a_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert cut_slots() == [Slot((), 1)] * CPUS
    assert cut_slots(cpus_per_trial=CPUS) == [Slot((), CPUS)]


@pytest.mark.parametrize(
    ("visible", "share", "groups"),
    [
        ("0", "auto", [("0",)]),
        ("GPU-abc", 1, [("GPU-abc",)]),
        ("3,5", 2, [("3", "5")]),
        ("0", 0, [()]),
    ],
)
def test_gpus_make_the_slots(
    monkeypatch: pytest.MonkeyPatch, visible: str, share: float, groups: list
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    slots = cut_slots(CPUS, share)
    assert [slot.gpus for slot in slots] == groups
    assert {slot.threads for slot in slots} == {CPUS}


@pytest.mark.skipif(CPUS < 2, reason="needs two cores")
def test_a_fraction_shares_one_gpu_and_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4")
    assert cut_slots(gpus_per_trial=0.5) == [Slot(("4",), CPUS // 2)] * 2


@pytest.mark.skipif(CPUS < 2, reason="needs two cores")
def test_fractions_fill_every_gpu_before_one_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    assert [slot.gpus for slot in cut_slots(1, 0.5)][:2] == [("4",), ("7",)]


def test_no_more_slots_than_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(CPUS + 3))))
    assert len(cut_slots()) == CPUS


@pytest.mark.parametrize(
    ("visible", "names"), [("", []), ("-1", []), ("0,1", ["0", "1"]), ("GPU-a", ["GPU-a"])]
)
def test_a_users_own_limit_is_kept(
    monkeypatch: pytest.MonkeyPatch, visible: str, names: list[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpu_names() == names


@pytest.mark.parametrize(
    ("shares", "error", "message"),
    [
        ({"gpus_per_trial": 2}, DeviceError, "launcher.gpus_per_trial: Received 2. This machine"),
        ({"gpus_per_trial": 1.5}, ConfigError, "a fraction of one, or a whole number"),
        ({"gpus_per_trial": -1}, ConfigError, "Received -1. Expected auto, 0,"),
        ({"cpus_per_trial": 0}, ConfigError, "launcher.cpus_per_trial: Received 0. Expected auto"),
        ({"cpus_per_trial": 0.5}, ConfigError, "Expected auto or a whole number from 1"),
        ({"cpus_per_trial": 10_000}, DeviceError, f"Received 10000. This machine has {CPUS} cores"),
    ],
)
def test_a_share_that_does_not_fit_is_refused(
    monkeypatch: pytest.MonkeyPatch, shares: dict, error: type[DlsweepError], message: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with pytest.raises(error) as refused:
        cut_slots(**shares)
    assert message in str(refused.value)


def test_a_slot_keeps_a_trial_to_itself() -> None:
    environment = Slot(("2", "3"), 4).environment()
    assert environment["CUDA_VISIBLE_DEVICES"] == "2,3"
    assert environment["OMP_NUM_THREADS"] == environment["DLSWEEP_THREADS"] == "4"
    assert Slot((), 1).environment()["CUDA_VISIBLE_DEVICES"] == ""
