"""What happens in a trial's process before anything is built."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from dlsweep.errors import ConfigError
from dlsweep.torch.trainer import setup

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


def drawn() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_the_seed_settles_the_numbers_of_all_three_libraries():
    setup(seed=5)
    first = drawn()
    setup(seed=5)
    assert drawn() == first
    setup(seed=6)
    assert not set(drawn()) & set(first)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_that_numpy_does_not_take_is_refused(seed: int):
    with pytest.raises(ConfigError, match=f"seed: Received {seed}"):
        setup(seed=seed)


def test_threads_are_set_only_where_they_are_given():
    setup(seed=0, threads=1)
    assert torch.get_num_threads() == 1
    setup(seed=0, threads=2)
    setup(seed=0)
    assert torch.get_num_threads() == 2


def test_deterministic_allows_no_other_kernels():
    setup(seed=0)
    assert not torch.are_deterministic_algorithms_enabled()
    setup(seed=0, deterministic=True)
    assert torch.are_deterministic_algorithms_enabled()
