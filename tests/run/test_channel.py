"""The wire between a trial and its driver."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import pytest

from dlsweep.run.channel import CHANNEL_VARIABLE, Channel, DriverEnd


@pytest.fixture
def driver() -> Iterator[DriverEnd]:
    end = DriverEnd()
    yield end
    end.close()


@pytest.fixture
def trial(driver: DriverEnd, monkeypatch: pytest.MonkeyPatch) -> Iterator[Channel]:
    """The trial's end, as its process finds it."""
    monkeypatch.setenv(CHANNEL_VARIABLE, str(os.dup(driver.child_descriptor)))
    driver.close_child()
    channel = Channel.inherited()
    assert channel is not None
    yield channel
    channel.close()


def test_a_process_without_a_wire_finds_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CHANNEL_VARIABLE, raising=False)
    assert Channel.inherited() is None


def test_the_wire_is_not_passed_on_to_children(trial: Channel) -> None:
    assert CHANNEL_VARIABLE not in os.environ


def test_every_ring_is_answered_before_the_trial_goes_on(driver: DriverEnd, trial: Channel) -> None:
    def answer_slowly() -> None:
        for verdict in (None, "pruned"):
            assert driver.read_notification(wait=5)
            time.sleep(0.1)
            driver.answer(verdict)

    answering = threading.Thread(target=answer_slowly)
    answering.start()
    trial.notify()
    assert trial.verdict() is None
    trial.notify()
    began = time.monotonic()
    assert trial.verdict() == "pruned"
    assert time.monotonic() - began > 0.05
    answering.join()


def test_a_wish_behind_several_rings_is_heard(driver: DriverEnd, trial: Channel) -> None:
    trial.notify()
    trial.notify()
    driver.answer()
    wishing = threading.Timer(0.1, driver.answer, ["pruned"])
    wishing.start()
    assert trial.verdict() == "pruned"
    wishing.join()


def test_without_a_ring_the_trial_only_looks(driver: DriverEnd, trial: Channel) -> None:
    assert trial.verdict() is None
    driver.answer("interrupted")
    assert trial.verdict() == "interrupted"


def test_a_driver_hears_rings_one_by_one(driver: DriverEnd, trial: Channel) -> None:
    assert not driver.read_notification()
    trial.notify()
    trial.notify()
    assert [driver.read_notification() for _ in range(3)] == [True, True, False]
    assert driver.is_open


def test_a_dead_driver_is_a_reason_to_stop(driver: DriverEnd, trial: Channel) -> None:
    driver.close()
    trial.notify()
    assert trial.verdict() == "interrupted"
    trial.notify()
    assert trial.verdict() == "interrupted"


def test_a_driver_that_dies_while_it_is_asked_is_a_reason_to_stop(
    driver: DriverEnd, trial: Channel
) -> None:
    trial.notify()
    dying = threading.Timer(0.1, driver.close)
    dying.start()
    assert trial.verdict() == "interrupted"
    dying.join()


def test_a_trial_that_has_ended_rings_no_more_and_hears_no_answer(
    driver: DriverEnd, trial: Channel
) -> None:
    trial.close()
    assert not driver.read_notification()
    assert not driver.is_open
    driver.answer("pruned")
