"""The run folder is the truth about a run: every record, result and lock."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from dlsweep.errors import StudyError
from dlsweep.folders.rundir import LOST, Record, Result, RunDir, first_nonfinite, write_atomically
from dlsweep.folders.studydir import StudyDir


def test_what_a_run_is_comes_back(make_run: Callable[..., RunDir]) -> None:
    run = make_run({"seed": 3}, name="0007", overrides=["a='b c'", "x=1"], params={"x": None})
    info = RunDir(run.path).info()
    assert (info.name, info.number, info.params) == ("0007", 7, {"x": None})
    assert run.config_file.read_text() == "seed: 3\n"
    assert run.overrides_file.read_text() == '- "a=\'b c\'"\n- "x=1"\n'


def test_another_folder_is_no_run_folder(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"it has no run\.json") as error:
        RunDir(tmp_path).info()
    assert "such as outputs/mnist/trials/0007" in str(error.value)


def test_a_result_is_absent_until_the_run_has_ended(make_run: Callable[..., RunDir]) -> None:
    run = make_run()
    assert run.result() is None
    ended = Result("pruned", "", {"loss": 0.5}, 1.0, 2.0, 0.75)
    run.write_result(ended)
    assert RunDir(run.path).result() == ended
    run.request_stop("interrupted")
    run.clear()
    assert run.result() is None
    assert not run.stop_file.exists()


@pytest.mark.parametrize(
    ("code", "status", "reason"),
    [
        (3, "crashed", "its process ended with exit code 3 and no result"),
        (-signal.SIGSEGV, "killed", "killed by SIGSEGV"),
        (-signal.SIGKILL, "killed", "killed by SIGKILL"),
        (LOST, "node_lost", "its parent process is gone"),
    ],
)
def test_a_process_that_is_gone_tells_by_its_exit_code(
    make_run: Callable[..., RunDir], code: int, status: str, reason: str
) -> None:
    run = make_run()
    settled = run.settle(code)
    assert settled.status == status
    assert settled.reason.startswith(reason)
    assert run.result() == settled


def test_a_process_that_was_killed_when_memory_ran_out_is_named_so(make_run) -> None:
    settled = make_run().settle(-signal.SIGKILL, memory_ran_out=True)
    assert settled.status == "out_of_memory"


def test_an_attempt_is_noted_once(make_run: Callable[..., RunDir]) -> None:
    run = make_run()
    first, second = Result("killed", "one", ended=1.0), Result("crashed", "two", ended=2.0)
    assert run.note_attempt(first) == run.note_attempt(first) == [first]
    assert RunDir(run.path).note_attempt(second) == [first, second]


def test_what_a_run_said_itself_outweighs_its_exit_code(make_run: Callable[..., RunDir]) -> None:
    run = make_run()
    run.write_result(Result("completed", metrics={"loss": 1.0}))
    assert run.settle(-signal.SIGKILL).status == "completed"


@pytest.mark.parametrize(
    ("status", "asked", "expected"),
    [
        ("interrupted", None, "node_lost"),  # it noticed that its parent was gone
        ("interrupted", "interrupted", "interrupted"),
        ("interrupted", "stopped", "stopped"),
        ("preempted", None, "preempted"),
        ("completed", None, "completed"),
    ],
)
def test_a_run_that_ends_because_its_parent_is_gone_is_lost(
    make_run: Callable[..., RunDir], status: str, asked: str | None, expected: str
) -> None:
    run = make_run()
    if asked:
        run.request_stop(asked)
    run.write_result(Result(status))
    assert run.settle(LOST).status == expected
    assert run.result() == run.settle(LOST)


@pytest.mark.parametrize(
    ("step", "time"), [("1" + "0" * 40, "1.0"), ("1", "Infinity"), ("1", "NaN")]
)
def test_a_record_with_an_impossible_step_or_time_is_damaged(
    make_run: Callable[..., RunDir], step: str, time: str
) -> None:
    run = make_run()
    run.records_file.write_text(f'{{"step": {step}, "time": {time}, "metrics": {{}}}}\n')
    with pytest.raises(StudyError, match=r"records\.jsonl is damaged: a step or a time"):
        list(run.records())


def test_records_are_read_from_an_offset_and_whole(make_run: Callable[..., RunDir]) -> None:
    run = make_run()
    assert list(run.records()) == []
    lines = [f'{{"step": {n}, "time": 1.5, "metrics": {{"loss": {n}.0}}}}\n' for n in range(3)]
    run.records_file.write_text("".join(lines) + lines[0][:-2])
    found = list(run.records())
    assert [record for record, _ in found] == [Record(n, 1.5, {"loss": float(n)}) for n in range(3)]
    assert list(run.records(found[0][1])) == found[1:]
    assert list(run.records(found[-1][1])) == []


def test_the_logs_end_is_read_also_from_a_large_log(make_run: Callable[..., RunDir]) -> None:
    run = make_run()
    assert run.log_tail() == ""
    run.log_file.write_bytes(b"\xff" + b"".join(b"line %d\n" % n for n in range(9000)))
    assert run.log_tail(2) == "line 8998\nline 8999"


def test_a_studys_trials_lie_in_it_by_number(tmp_path: Path) -> None:
    study = StudyDir(tmp_path / "study")
    study.create()
    assert study.trial(7).path == tmp_path / "study" / "trials" / "0007"
    assert study.trials.is_dir()
    assert [path.name for path in study.path.iterdir()] == ["trials"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StudyError) as error:
        StudyDir(tmp_path / "file" / "study").create()
    assert f"{tmp_path}/file/study cannot be written" in str(error.value)
    assert "outputs=/some/folder" in str(error.value)


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.json"
    write_atomically(path, "old")
    with path.open() as reader:
        write_atomically(path, "new")
        assert reader.read() == "old"
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def test_the_first_metric_that_is_no_finite_number_is_named() -> None:
    assert first_nonfinite({"a": 1.0, "b": float("nan"), "c": float("inf")}) == "b"
    assert first_nonfinite({"a": 1.0}) is None


def test_a_config_is_read_as_omegaconf_reads_it(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.config_file.parent.mkdir()
    run.config_file.write_text(
        "a: 1e-3\nb: 2026-01-01\nc: 1_000\nd: yes\ne: [1., -.inf, ~]\nf: 12:30:00\n"
        "g: ${a}\nh: {1: x, 2.5: y, true: z}\ni: '1e-3'\nj: 0x1F\nk: 007\nl: |\n  lines\n"
    )
    read = OmegaConf.to_container(OmegaConf.load(run.config_file))
    assert run.config() == read
    assert [type(one) for one in run.config().values()] == [type(one) for one in read.values()]
    run.config_file.write_text("")
    assert run.config() == {}


def test_a_config_is_written_as_omegaconf_writes_it(make_run: Callable[..., RunDir]) -> None:
    values = [
        "yes",
        "1e-3",
        "0x1F",
        "12:30",
        "null",
        "",
        " a ",
        "${oc.env:X}",
        "a: b",
        "ä\n",
        "#",
        "-",
    ]
    config = OmegaConf.create({"b": values, "a": {1: None, "c": [1e-5, 1e300, -1, True, []]}})
    run = make_run(config)
    text = run.config_file.read_text()
    assert text == OmegaConf.to_yaml(config)
    assert run.config() == OmegaConf.to_container(OmegaConf.create(text)) != {}
