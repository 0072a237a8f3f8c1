"""What a classifier's trainer logs at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest

from dlsweep.folders.rundir import RunDir
from dlsweep.run.run import Run
from dlsweep.trainers.predictions import Outcome, log_predictions


@pytest.fixture
def logged(make_run: Callable[..., RunDir]) -> Callable[[Iterable[Outcome]], dict[str, Any]]:
    """Logs outcomes; returns the media by name, images as arrays."""

    def logged(outcomes: Iterable[Outcome]) -> dict[str, Any]:
        from PIL import Image

        folder = make_run()
        with Run.open(folder.path) as run:
            log_predictions(run, "val", outcomes, step=3)
        records = [record for record, _ in folder.records()]
        assert {record.step for record in records} <= {3}
        media = {name: one for record in records for name, one in record.media.items()}
        for name, one in media.items():
            if one["kind"] == "image":
                media[name] = np.asarray(Image.open(folder.path / one["file"]))
        return media

    return logged


def outcome(predicted: list[int], targets: list[int], classes: int, inputs: Any = None) -> Outcome:
    """A batch whose outputs are 2 for the predicted class and 0 for the others."""
    return inputs, np.array(targets), np.float32(2) * np.eye(classes, dtype=np.float32)[predicted]


def test_batches_add_up_to_one_confusion_matrix_and_the_first_examples(logged) -> None:
    found = logged([outcome([0, 1, 1], [0, 0, 1], 3), outcome([2] * 30, [1] * 30, 3)])
    assert set(found) == {"val/confusion", "val/predictions"}
    assert found["val/confusion"]["columns"] == ["target", "0", "1", "2"]
    assert found["val/confusion"]["rows"] == [[0, 1, 1, 0], [1, 0, 1, 30], [2, 0, 0, 0]]
    examples = found["val/predictions"]
    assert examples["columns"] == ["index", "target", "predicted", "probability"]
    assert [row[:3] for row in examples["rows"][:4]] == [[0, 0, 0], [1, 0, 1], [2, 1, 1], [3, 1, 2]]
    surety = np.exp(2) / (np.exp(2) + 2)
    assert [row[3] for row in examples["rows"]] == pytest.approx([surety] * 20)


def test_targets_that_the_loss_ignores_count_as_no_mistake(logged) -> None:
    images = np.random.default_rng(0).normal(size=(2, 4, 4))
    found = logged([outcome([0, 1], [0, -100], 2, images)])
    assert set(found) == {"val/confusion", "val/predictions"}
    assert found["val/confusion"]["rows"] == [[0, 1, 0], [1, 0, 0]]


def test_many_classes_have_no_confusion_matrix(logged) -> None:
    assert set(logged([outcome([0], [0], 51)])) == {"val/predictions"}
    assert set(logged([outcome([0], [0], 50)])) == {"val/predictions", "val/confusion"}


def test_the_surest_mistakes_are_shown_as_images(logged) -> None:
    images = np.linspace(0, 1, 20 * 4 * 6).reshape(20, 1, 4, 6).astype(np.float32)
    _, targets, outputs = outcome([1] * 20, [0] * 20, 2)
    outputs[7] = [0, 9]
    shown = logged([(images, targets, outputs)])["val/mistakes"]
    assert shown.shape == (16, 24)
    stretched = np.linspace(0, 255, 24).round().reshape(4, 6)
    np.testing.assert_allclose(shown[:4, :6], stretched, atol=1)


def test_colours_and_three_mistakes_fill_two_rows(logged) -> None:
    images = np.random.default_rng(0).normal(size=(3, 3, 4, 4))
    shown = logged([outcome([1] * 3, [0] * 3, 2, images)])["val/mistakes"]
    assert shown.shape == (8, 8, 3)
    assert not shown[4:, 4:].any()


@pytest.mark.parametrize(
    ("targets", "outputs"),
    [
        (np.zeros((3, 2)), np.zeros((3, 2))),
        (np.zeros(3, int), np.zeros((3, 2, 5))),
        (np.zeros((3, 5), int), np.zeros((3, 2, 5))),
    ],
    ids=["soft targets", "outputs of places", "targets of places"],
)
def test_what_is_not_one_class_an_example_is_left_out(logged, targets, outputs) -> None:
    assert logged([(None, targets, outputs)]) == {}
