"""Tables of numbers and words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dlsweep.data import table
from dlsweep.errors import ConfigError, DataError

FRAME = pd.DataFrame(
    {
        "age": [20, 30, 40, 50, 60, 70, 80, 90],
        "colour": ["red", "blue", "red", "green", "blue", "red", "green", "blue"],
        "member": [True, False] * 4,
        "same": [1.5] * 8,
        "wage": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.5],
        "kind": ["yes", "no", "no", "yes"] * 2,
    }
)
NAMES = ["age", "colour=blue", "colour=green", "colour=red", "member", "same", "wage"]


def write(folder: Path, frame: pd.DataFrame = FRAME, name: str = "people.csv") -> str:
    path = folder / name
    frame.to_csv(path, index=False) if name.endswith("csv") else frame.to_parquet(path)
    return str(path)


@pytest.mark.parametrize("name", ["people.csv", "people.parquet"])
def test_numbers_stay_and_each_word_becomes_an_input(tmp_path: Path, name: str) -> None:
    data = table(write(tmp_path, name=name), "kind", validation=0.25)
    assert data.record["columns"] == NAMES
    assert data.record["class_names"] == ["no", "yes"]
    assert [len(data.train), len(data.validation)] == [6, 2]
    assert sorted(data.validation.targets.tolist()) == [0, 1]
    inputs = np.concatenate([data.train.inputs, data.validation.inputs])
    targets = np.concatenate([data.train.targets, data.validation.targets])
    for row, target in zip(inputs, targets, strict=True):
        (place,) = np.flatnonzero(FRAME["age"] == row[0])
        source = FRAME.iloc[place]
        words = [source["colour"] == word for word in ("blue", "green", "red")]
        assert row[1:].tolist() == [*words, source["member"], 1.5, source["wage"]]
        assert data.record["class_names"][target] == source["kind"]


def test_numbers_are_normalised_by_the_training_rows_and_words_are_not(tmp_path: Path) -> None:
    data = table(write(tmp_path), "kind", validation=0.25)
    values = data.normalise(data.train.inputs)
    np.testing.assert_allclose(values[:, [0, 6]].mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(values[:, [0, 6]].std(0), 1, atol=1e-5)
    assert set(np.unique(values[:, 1:4])) == {0.0, 1.0}
    assert (values[:, 5] == 0).all()
    assert data.facts()["input_shape"] == [7]
    assert data.facts()["classes"] == 2


def test_floats_are_values_to_predict(tmp_path: Path) -> None:
    data = table(write(tmp_path), "wage", columns=["age", "kind"], validation=0.25)
    assert data.train.targets.shape == (6, 1)
    assert data.train.targets.dtype == np.float32
    assert data.facts()["classes"] == 1
    assert data.record["columns"] == ["age", "kind=no", "kind=yes"]


def test_whole_numbers_are_classes_in_their_order(tmp_path: Path) -> None:
    frame = FRAME.assign(kind=[10, 9, 9, 10] * 2)
    data = table(write(tmp_path, frame), "kind", validation=0.25)
    assert data.record["class_names"] == ["9", "10"]


def test_a_table_is_read_once(tmp_path: Path, cache: Path) -> None:
    path = write(tmp_path)
    table(path, "kind", validation=0.25)
    made = [each.stat().st_mtime_ns for each in cache.iterdir()]
    table(path, "kind", validation=0.5, seed=3)
    assert [each.stat().st_mtime_ns for each in cache.iterdir()] == made
    table(path, "kind", ["age"], validation=0.25)
    assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"target": "kid"},
            ConfigError,
            r"data\.target: .* has no column 'kid'\. Did you mean 'kin",
        ),
        ({"columns": ["agee"]}, ConfigError, r"data\.columns: .* 'agee'\. Did you mean 'age'"),
        ({"columns": ["kind"]}, ConfigError, r"without the target"),
        ({"columns": []}, ConfigError, r"one column or more"),
        ({"classes": 5}, ConfigError, r"data\.classes: Received 5\. Expected 2"),
        ({"input_shape": [3]}, ConfigError, r"data\.input_shape: Received \[3\]\. Expected \[7\]"),
        ({"path": "none.csv"}, DataError, r"none\.csv is not a file"),
        ({"target": "wage", "validation": 0.01}, ConfigError, r"takes 0 of 8 examples"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(
    tmp_path: Path, arguments: dict, error: type, message: str
) -> None:
    with pytest.raises(error, match=message):
        table(**{"path": write(tmp_path), "target": "kind", "validation": 0.25, **arguments})


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("age", [1.0, np.nan, 3, np.inf] * 2, r"'age' has 4 missing or infinite .* row 2\."),
        ("colour", ["a", "b", None, "c"] * 2, r"'colour' has 2 missing or infinite .* row 3\."),
        ("kind", ["a", None, "a", "b"] * 2, r"'kind' has 2 missing"),
        ("age", pd.date_range("2020", periods=8), r"'age' contains times"),
    ],
)
def test_a_column_that_cannot_be_used_is_named(
    tmp_path: Path, column: str, values: object, message: str
) -> None:
    path = write(tmp_path, FRAME.assign(**{column: values}), "people.parquet")
    with pytest.raises(DataError, match=message):
        table(path, "kind", validation=0.25)


def test_a_column_of_names_is_refused(tmp_path: Path) -> None:
    frame = pd.DataFrame({"id": [f"n{i}" for i in range(1100)], "kind": [0, 1] * 550})
    with pytest.raises(DataError, match=r"'id' has 1100 different words, more than 1000"):
        table(write(tmp_path, frame), "kind")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", r"a\.csv cannot be read as a table"),
        ("a.csv", b"x,y\n", r"a\.csv has no rows"),
        ("a.parquet", b"PAR1", r"a\.parquet cannot be read as a table"),
    ],
)
def test_a_file_that_is_no_table_is_named(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        table(str(tmp_path / name), "y")


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.xlsx").touch()
    with pytest.raises(ConfigError, match=r"Received a\.xlsx\. Expected a \.csv or \.parquet"):
        table(str(tmp_path / "a.xlsx"), "y")


def test_the_task_decides_what_the_target_is(tmp_path: Path) -> None:
    data = table(write(tmp_path), "age", task="regression", validation=0.25)
    targets = np.concatenate([data.train.targets, data.validation.targets])
    assert sorted(targets[:, 0]) == FRAME["age"].tolist()
    assert (targets.dtype, data.classes) == (np.float32, None)
    frame = pd.DataFrame({"x": range(6), "grade": [1.0, 2.5] * 3})
    data = table(write(tmp_path, frame), "grade", task="classification", validation=0.34)
    assert data.record["class_names"] == ["1.0", "2.5"]
    assert data.train.targets.dtype.kind == "i"


def test_a_task_that_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'kind' contains words\. Expected numbers for data\.task"):
        table(write(tmp_path), "kind", task="regression")
    with pytest.raises(ConfigError, match=r"data\.task: Received 'rank'\. Expected classification"):
        table(write(tmp_path), "kind", task="rank")  # type: ignore[arg-type]


def test_a_target_is_standardised_by_the_training_rows_alone(tmp_path: Path) -> None:
    frame = pd.DataFrame({"x": range(40), "price": np.arange(40) ** 2})
    options = {"task": "regression", "validation": 0.25, "standardize_target": True}
    data = table(write(tmp_path, frame), "price", **options)
    targets = data.train.targets
    assert sorted({*targets[:, 0], *data.validation.targets[:, 0]}) == frame["price"].tolist()
    facts = data.facts()
    assert facts["target_mean"] == pytest.approx(targets.mean(0).tolist())
    assert facts["target_std"] == pytest.approx(targets.std(0).tolist())
    made = data.standardise(targets)
    assert (made.dtype, made.mean(), made.std()) == (
        np.float32, pytest.approx(0, abs=1e-6), pytest.approx(1),
    )  # fmt: skip
    assert data.standardise(data.validation.targets).mean() != pytest.approx(0, abs=1e-3)
    plain = table(write(tmp_path, frame), "price", task="regression")
    assert "target_mean" not in plain.facts()
    assert plain.standardise(targets) is targets


def test_classes_are_not_standardised(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"standardize_target(?s:.)*Type  data\.task=regression"):
        table(write(tmp_path), "kind", standardize_target=True)
