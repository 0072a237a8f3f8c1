"""What a run logs beside numbers stands in its folder, once."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from dlsweep.errors import DataError, StudyError
from dlsweep.folders.rundir import RunDir
from dlsweep.run.run import Run

MakeRun = Callable[..., RunDir]


def logged(folder: RunDir) -> dict[str, dict]:
    return {name: one for record, _ in folder.records() for name, one in record.media.items()}


@pytest.mark.parametrize(
    ("image", "size", "mode"),
    [
        (np.full((4, 6), 128, np.uint8), (6, 4), "L"),
        (np.full((4, 6, 1), 0.5), (6, 4), "L"),
        (np.zeros((4, 6, 3), np.float32), (6, 4), "RGB"),
        (np.zeros((4, 6, 4), np.uint8), (6, 4), "RGBA"),
        (Image.new("RGB", (6, 4)), (6, 4), "RGB"),
    ],
)
def test_an_image_is_a_file_that_a_record_names(make_run: MakeRun, image, size, mode) -> None:
    folder = make_run()
    with Run.open(folder.path) as run:
        run.log_image("val/examples", image, step=3)
    about = logged(folder)["val/examples"]
    assert about == {"kind": "image", "file": "media/val%2Fexamples-00000003.png"}
    with Image.open(folder.path / about["file"]) as kept:
        assert (kept.size, kept.mode) == (size, mode)


def test_floats_become_bytes(make_run: MakeRun) -> None:
    folder = make_run()
    with Run.open(folder.path) as run:
        run.log_image("a", np.array([[0.0, 0.5, 1.0]]), step=0)
    with Image.open(folder.media_file("a", 0)) as kept:
        assert np.asarray(kept).tolist() == [[0, 128, 255]]


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        (np.zeros((3, 8, 8)), r"shape \[3, 8, 8\].*Channels come last:  image.transpose"),
        (np.zeros(8), r"shape \[8\]"),
        (np.zeros((0, 8)), r"shape \[0, 8\]"),
        (np.full((2, 2), 7.0), "float64 from 7 to 7. Expected uint8"),
        (np.full((2, 2), np.nan), "from nan to nan"),
    ],
)
def test_what_is_no_image_is_refused(make_run: MakeRun, image, problem: str) -> None:
    with Run.open(make_run().path) as run, pytest.raises(DataError, match=f"(?s){problem}"):
        run.log_image("a", image, step=0)


def test_a_figure_is_kept_as_an_image(make_run: MakeRun) -> None:
    def savefig(file: io.BytesIO, format: str) -> None:
        Image.new("RGB", (5, 3)).save(file, format=format)

    folder = make_run()
    with Run.open(folder.path) as run:
        run.log_figure("curve", SimpleNamespace(savefig=savefig), step=1)
        with pytest.raises(DataError, match=r"Received int. Expected a Matplotlib figure"):
            run.log_figure("curve", 3, step=2)
    with Image.open(folder.media_file("curve", 1)) as kept:
        assert kept.size == (5, 3)


def test_a_histogram_counts_what_is_finite(make_run: MakeRun) -> None:
    folder = make_run()
    with Run.open(folder.path) as run:
        run.log_histogram("weights", [[0.0, 1.0, 1.0], [np.nan, np.inf, 0.5]], step=1)
    about = logged(folder)["weights"]
    assert (sum(about["counts"]), about["counts"][0], about["counts"][-1]) == (4, 1, 2)
    assert (about["edges"][0], about["edges"][-1], len(about["edges"])) == (0.0, 1.0, 65)
    assert (about["sum"], about["sum_squares"]) == (2.5, 2.25)


def test_texts_and_tables_are_plain_values(make_run: MakeRun) -> None:
    folder = make_run()
    with Run.open(folder.path) as run:
        run.log_text("sample", "once upon", step=1)
        run.log_table("wrong", ["id", "p"], [(np.int64(3), np.float64(0.5)), (None, "a")], step=1)
        with pytest.raises(DataError, match=r"a row of 1 cells: \[1\].\nExpected 2: id, p"):
            run.log_table("wrong", ["id", "p"], [[1]], step=2)
    assert logged(folder) == {
        "sample": {"kind": "text", "text": "once upon"},
        "wrong": {"kind": "table", "columns": ["id", "p"], "rows": [[3, 0.5], [None, "a"]]},
    }


def test_a_step_that_is_passed_twice_is_kept_once(make_run: MakeRun) -> None:
    folder = make_run()
    for texts in (["one", "two"], ["another", "again", "three"]):
        with Run.open(folder.path) as run:
            for step, text in enumerate(texts):
                run.log_text("sample", text, step)
    kept = [record.media["sample"]["text"] for record, _ in folder.records()]
    assert kept == ["one", "two", "three"]


@pytest.mark.parametrize("file", ["/etc/passwd", "../secret.png", "media/../../secret.png"])
def test_an_image_that_lies_elsewhere_is_refused(make_run: MakeRun, file: str) -> None:
    folder = make_run()
    about = {"step": 1, "time": 0.0, "metrics": {}, "media": {"x": {"kind": "image", "file": file}}}
    folder.records_file.write_text(json.dumps(about) + "\n")
    with pytest.raises(StudyError, match=r"is not in media/"):
        list(folder.records())
