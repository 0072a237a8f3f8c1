"""Batches for PyTorch, whatever the data came as."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    TensorDataset,
    WeightedRandomSampler,
)

from dlsweep.data import Augmentation, Data, Loader, Split
from dlsweep.errors import DataError
from dlsweep.torch.batches import prepare, size_of

pytestmark = pytest.mark.slow
CPU = torch.device("cpu")
X, Y = np.arange(10, dtype=np.float32).reshape(10, 1), np.arange(10)


class Stream(IterableDataset):
    def __iter__(self):
        return iter([(torch.tensor([float(n)]), n) for n in range(10)])


def tensors() -> TensorDataset:
    return TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))


SOURCES = {
    "data": lambda: Data(Split(X, Y), Split(X, Y)),
    "arrays": lambda: {"train": (X, Y), "validation": (X, Y)},
    "dataset": lambda: {"train": tensors(), "validation": tensors()},
    "loader": lambda: {
        "train": DataLoader(tensors(), 4, shuffle=True),
        "validation": DataLoader(tensors(), 4),
    },
}
sources = pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES.keys())


def order(batches, epoch: int) -> list[int]:
    return [int(target) for _, targets in batches.epoch(epoch) for target in targets]


@sources
def test_an_epoch_has_each_example_once_with_its_target(source):
    data = prepare(source(), batch_size=4, seed=0, device=CPU)
    for part in (data.train, data.validation):
        batches = list(part.epoch(1))
        assert [size_of(batch) for batch in batches] == [4, 4, 2]
        inputs = torch.cat([inputs for inputs, _ in batches])
        targets = torch.cat([targets for _, targets in batches])
        assert inputs.dtype == torch.float32
        assert targets.dtype == torch.int64
        assert torch.equal(inputs[:, 0].long(), targets)
        assert sorted(targets.tolist()) == list(range(10))


@sources
def test_the_order_depends_on_seed_and_epoch_alone(source):
    torch.manual_seed(1)
    data = prepare(source(), batch_size=4, seed=3, device=CPU)
    first = [order(data.train, epoch) for epoch in (1, 2)]
    torch.manual_seed(2)
    again = prepare(source(), batch_size=4, seed=3, device=CPU)
    assert order(again.train, 2) == first[1]  # without having seen epoch 1
    assert first[0] != first[1]
    other = prepare(source(), batch_size=4, seed=4, device=CPU)
    assert order(other.train, 1) != first[0]


@sources
def test_ordering_leaves_the_global_random_numbers_alone(source):
    data = prepare(source(), batch_size=4, seed=3, device=CPU)
    before = torch.get_rng_state()
    order(data.train, 1)
    order(data.validation, 1)
    assert torch.equal(torch.get_rng_state(), before)


@sources
def test_validation_keeps_its_order(source):
    data = prepare(source(), batch_size=4, seed=3, device=CPU)
    assert order(data.validation, 1) == order(data.validation, 2) == list(range(10))


@sources
def test_the_record_counts_the_examples(source):
    data = prepare(source(), batch_size=4, seed=0, device=CPU)
    assert data.record["examples"] == {"train": 10, "validation": 10}


def test_the_record_of_arrays_says_what_a_model_and_an_export_need():
    facts = {
        "input_shape": [1],
        "input_dtype": str(X.dtype),
        "classes": 10,
        "mean": 0.0,
        "std": 1.0,
        "schema": [{"name": "inputs", "dtype": "float32", "shape": [1]}],
    }
    record = prepare(SOURCES["arrays"](), batch_size=4, seed=0, device=CPU).record
    assert record == {"examples": {"train": 10, "validation": 10}, **facts}


def test_a_samplers_own_generator_gives_way_to_seed_and_epoch():
    def make():
        sampler = WeightedRandomSampler([1.0] * 10, 10, generator=torch.Generator())
        return {"train": DataLoader(tensors(), 4, sampler=sampler), "validation": tensors()}

    straight = prepare(make(), 4, seed=0, device=CPU)
    orders = [order(straight.train, epoch) for epoch in (1, 2)]
    resumed = prepare(make(), 4, seed=0, device=CPU)
    assert order(resumed.train, 2) == orders[1] != orders[0]


def seen(batches, epoch: int) -> list[torch.Tensor]:
    return [inputs for inputs, _ in batches.epoch(epoch)]


def test_training_images_are_augmented_from_epoch_to_epoch_and_others_never():
    images = np.arange(10 * 36, dtype=np.float32).reshape(10, 1, 6, 6)
    split = Split(images, Y)
    data = prepare(Data(split, split, augmentation=Augmentation(0.5, shift=0.3)), 4, 0, CPU)
    plain = prepare(Data(split, split), 4, 0, CPU)
    assert order(data.train, 1) == order(plain.train, 1), "the order is the same"
    first, again, second = (torch.cat(seen(data.train, epoch)) for epoch in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, torch.cat(seen(plain.train, 1)))
    moves = Augmentation(0.5, shift=0.3).draw(0, 2, images.shape)
    rows = np.array(order(data.train, 2))
    y, x = moves.origins(rows)
    by_hand = np.take_along_axis(np.take_along_axis(images[rows], y, -2), x, -1)
    assert torch.equal(second, torch.from_numpy(by_hand))
    assert torch.equal(torch.cat(seen(data.validation, 1)), torch.from_numpy(images))


def test_pixels_that_are_too_large_as_floats_give_the_same_bits(monkeypatch):
    random = np.random.default_rng(0)
    split = Split(random.integers(0, 256, (10, 3, 6, 6), dtype=np.uint8), Y)
    split.inputs.flags.writeable = False  # as in the cache
    found = Data(split, split, mean=random.random((3, 1, 1)), std=random.random((3, 1, 1)) + 0.1)
    as_floats = prepare(found, 4, 0, CPU)
    monkeypatch.setattr("dlsweep.torch.batches._MOST_FLOATS", 0)
    as_pixels = prepare(found, 4, 0, CPU)
    for part in ("train", "validation"):
        one, other = (torch.cat(seen(getattr(data, part), 1)) for data in (as_floats, as_pixels))
        assert torch.equal(one, other)


class Noise(Dataset):
    """Draws from all three libraries, wherever it is read."""

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int):
        noise = random.random() + np.random.rand() + torch.rand(()).item()
        return torch.tensor([index, noise], dtype=torch.float64), index


@pytest.mark.parametrize("persistent", [True, False])
def test_what_a_dataset_draws_depends_on_seed_and_epoch_alone(persistent: bool):
    def drawn(workers: int, epochs: tuple[int, ...], seed: int = 3) -> list[torch.Tensor]:
        options = Loader(workers, persistent_workers=persistent)
        data = prepare({"train": Noise(), "validation": Noise()}, 4, seed, CPU, options)
        return [torch.cat(seen(data.train, epoch)) for epoch in epochs]

    first, second = drawn(0, (1, 2))
    assert torch.equal(drawn(2, (2,))[0], second)
    assert torch.equal(drawn(1, (1, 2))[1], second)
    assert not torch.equal(first, second)
    assert not torch.equal(drawn(0, (1,), seed=4)[0], first)
    assert len({noise for _, noise in second.tolist()}) == 10


def test_a_stream_keeps_its_order_and_has_no_count():
    data = prepare({"train": Stream(), "validation": Stream()}, 4, seed=0, device=CPU)
    assert order(data.train, 1) == list(range(10))
    assert data.record == {"examples": {"train": None, "validation": None}}


def test_data_is_normalised_once_and_its_record_kept():
    pixels = Split(np.array([[0], [255]], dtype=np.uint8), np.array([0.5, 1.5]))
    data = prepare(Data(pixels, pixels, mean=0.5, std=0.5, record={"name": "two"}), 2, 0, CPU)
    ((inputs, targets),) = data.validation.epoch(1)
    assert inputs.tolist() == [[-1.0], [1.0]]
    assert targets.dtype == torch.float32
    assert data.record["name"] == "two"


def test_batches_of_dicts_stay_dicts():
    loader = DataLoader([{"name": "a", "x": torch.ones(2)}] * 3, 2)
    data = prepare({"train": loader, "validation": loader}, 4, 0, CPU)
    first, second = data.train.epoch(1)
    assert first["name"] == ("a", "a")
    assert [size_of(first), size_of(second)] == [2, 1]


def test_a_batch_without_tensors_has_no_size():
    with pytest.raises(DataError, match="Received a batch of a dict with 'name'"):
        size_of({"name": ("a", "b")})


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (None, r"data: Received builtins\.NoneType\."),
        ({"train": (X, Y)}, "data: Received a dict with 'train'"),
        ({}, "data: Received a dict with nothing in it"),
        ({"train": (X, Y), "validation": X}, r"data\['validation'\]: Received numpy\.ndarray"),
        ({"train": (X, Y[:9]), "validation": (X, Y)}, "Received 10 inputs and 9 targets"),
        ({"train": (X, Y - 1), "validation": (X, Y)}, "targets: Received labels from -1 to 8"),
        ({"train": (X, Y.astype(str)), "validation": (X, Y)}, "targets: Received the type <U"),
    ],
)
def test_what_is_no_data_is_refused(found, message: str):
    with pytest.raises(DataError, match=message):
        prepare(found, 4, 0, CPU)
