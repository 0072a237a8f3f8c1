"""What the report page holds: numbers, sentences, and texts that nobody's browser executes."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
import socket
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from made_studies import BEGAN, HIDDEN, LR, OPTIMIZER, Made, make_study

import dlsweep
from dlsweep.errors import ConfigError, StudyError
from dlsweep.folders.lineage import Inheritance, plain
from dlsweep.folders.studydir import StudyDir
from dlsweep.results.report import curves, page
from dlsweep.results.tables import Finished
from dlsweep.security import addresses

POINTS = [
    Made({OPTIMIZER: "adam", LR: 0.001, HIDDEN: 64}, [0.9], [0.5, 0.8, 0.9], span=(0, 10)),
    Made({OPTIMIZER: "sgd", LR: 0.01, HIDDEN: 128}, [0.95], [0.7, 0.95], span=(0, 6)),
    Made({OPTIMIZER: "sgd", LR: 0.1, HIDDEN: 32}, [0.2], [0.2], "pruned", span=(6, 8)),
    Made({OPTIMIZER: "adam", LR: 0.05, HIDDEN: 32}, [], [], "crashed", "crashed: oh", (9, 10)),
    Made({OPTIMIZER: "adam", LR: 0.02, HIDDEN: 32}, [], [0.1, 0.3], "", span=(10, 12)),
]


def data_of(folder: StudyDir) -> dict[str, Any]:
    data = page.page_data([Finished(folder)], folder.path)
    (study,) = json.loads(json.dumps(data, allow_nan=False))["studies"]
    return study


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> StudyDir:
    return make_study(tmp_path_factory.mktemp("report") / "mine", POINTS)[0]


@pytest.fixture(scope="module")
def study(folder: StudyDir) -> dict[str, Any]:
    return data_of(folder)


def test_the_page_says_what_was_found(study: dict[str, Any]) -> None:
    assert study["found"] == (
        "5 trials: 2 completed, 1 pruned, 1 crashed, 1 open. "
        "The best val/accuracy is 0.95, of trial 0001."
    )
    trials = study["trials"]
    kinds = [trials["kinds"][state] for state in trials["state"]]
    assert kinds == ["done", "done", "cut", "failed", "open"]
    assert trials["values"] == [[0.9, 0.95, 0.2, None, None]]
    assert trials["reasons"] == {"3": "crashed: oh"}
    assert study["best"] == [1, 0]


def test_the_space_has_its_scales_and_choices(study: dict[str, Any]) -> None:
    optimizer, lr, hidden = study["space"]
    assert optimizer == {"key": OPTIMIZER, "choices": ["adam", "sgd"]}
    assert (lr["key"], lr["low"], lr["high"], lr["log"]) == (LR, 0.0001, 0.1, True)
    assert (hidden["key"], hidden["whole"], hidden["step"]) == (HIDDEN, True, 1)
    assert study["trials"]["points"][0] == [0, 1, 1, 0, 0]
    assert study["trials"]["points"][2] == [64, 128, 32, 32, 32]


def test_shared_and_own_overrides_are_the_command_of_each_trial(
    folder: StudyDir, study: dict[str, Any]
) -> None:
    finished, trials = Finished(folder), study["trials"]
    assert study["command"] == ["python", "-m", "dlsweep", "+experiment=mine"]
    for row, trial in enumerate(finished.trials):
        own = [trials["override_names"][name] + text for name, text in trials["overrides"][row]]
        assert shlex.join([*study["command"], *own]) == finished.command(trial)


def test_a_trial_without_a_folder_has_no_command(tmp_path: Path) -> None:
    folder, made = make_study(tmp_path / "mine", POINTS[:1])
    made.enqueue_trial({LR: 0.01})
    study = data_of(folder)
    assert study["trials"]["overrides"][1] is None
    assert study["found"].startswith("2 trials: 1 completed, 1 waiting.")


def test_curves_keep_every_step_and_gaps(tmp_path: Path) -> None:
    folder, _ = make_study(tmp_path / "mine", POINTS)
    lines = [
        {"step": step, "time": 1.0, "metrics": {"val/accuracy": value, "loss": 1 / (1 + step)}}
        for step, value in [(5, 0.1), (7, float("nan")), (20, 0.123456789)]
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    folder.trial(0).records_file.write_text(text)
    study = data_of(folder)
    curve = study["curves"]["val/accuracy"]
    assert curve["rows"] == [0, 1, 2, 4]
    assert curve["steps"][0] == [5, 7, 20]
    assert curve["values"][0] == [0.1, None, 0.123457]
    assert curve["steps"][1:] == [[0, 1], [0, 1], [0, 1]]
    assert study["curves"]["loss"]["rows"] == [0]
    assert list(study["curves"]) == ["val/accuracy", "loss"], "the objective is first"


def test_curves_that_are_too_long_are_thinned_or_left_out_and_the_page_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [Made({LR: 0.01}, [0.9], [k / 10 for k in range(10)])]
    folder, _ = make_study(tmp_path / "mine", made)
    with folder.trial(0).records_file.open("a") as file:
        file.write('{"step": 10, "time": 1, "metrics": {"other": 1}}\n')
    monkeypatch.setattr(curves, "_POINTS", 4)
    study = data_of(folder)
    assert study["curves"] == {
        "val/accuracy": {"rows": [0], "steps": [[0, 3]], "values": [[0, 0.3, 0.6, 0.9]]}
    }
    thinned, left_out = study["notes"]
    assert thinned == "The curves of val/accuracy show one of 3 points, and the last."
    assert "left out, as they have too many points: other." in left_out


def test_a_lineage_is_shown_as_it_was_recorded(tmp_path: Path) -> None:
    copied = Inheritance(1, 0, 2, "step-00000002", {LR: 0.016}, {LR: [0.02, 0.016]})
    lineage = plain([Inheritance.beginning({LR: 0.5}), copied])
    first = Made({LR: 0.02}, [0.3], [0.1, 0.2, 0.3], "pruned")
    attrs = {"lineage": lineage}
    second = Made({LR: 0.05}, [0.25], [0.1, 0.2, 0.25], "pruned", attrs=attrs)
    folder, _ = make_study(tmp_path / "mine", [first, second])
    assert data_of(folder)["lineage"] == {
        "last": [2, 2],
        "copies": [[1, 1, 0, 2, [f"{LR}: 0.02 → 0.016"]]],
    }
    table = Finished(folder).table()
    assert list(table["lineage"].fillna("")) == ["", "0000@2"]
    assert list(dlsweep.load(folder.path).trials["lineage"]) == ["", "0000@2"]
    alone, _ = make_study(tmp_path / "alone", [first])
    assert data_of(alone)["lineage"] is None
    assert "lineage" not in Finished(alone).table()
    torn = Made({LR: 0.05}, [0.1], [0.1], attrs={"lineage": [{"at": 1}]})
    damaged, _ = make_study(tmp_path / "damaged", [torn])
    with pytest.raises(StudyError, match="trial 0 of the study is damaged"):
        data_of(damaged)


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_the_key_that_decides_is_ranked_first_in_both_directions(
    tmp_path: Path, direction: str
) -> None:
    """The best trials share a learning rate, and the worst a width."""
    sign = 1 if direction == "maximize" else -1
    made = []
    for k in range(60):
        lr, hidden, value = 10 ** (-4 + 3 * (k * 37 % 60) / 60), 32 + k * 67 % 400, 0.5 + k / 999
        if k % 10 == 0:
            lr, value = 0.09, 1.0
        elif k % 10 == 5:
            hidden, value = 500, 0.0
        made.append(Made({LR: lr, HIDDEN: hidden}, [sign * value]))
    folder, _ = make_study(tmp_path / "mine", made, directions=[direction])
    (found,) = data_of(folder)["importance"]
    assert found["shares"][0][0] == LR
    assert found["shares"][0][1] > 0.6
    assert found["text"] == "By Optuna's PED-ANOVA, from 60 completed trials."


def test_importance_is_not_made_up(tmp_path: Path) -> None:
    few, _ = make_study(tmp_path / "few", POINTS)
    assert data_of(few)["importance"][0]["text"].endswith(
        "2 completed trials: with so few, a hint at most."
    )
    one, _ = make_study(tmp_path / "one", POINTS[:1])
    assert data_of(one)["importance"] == [
        {"shares": [], "text": "Fewer than 2 trials have completed."}
    ]
    alike = [Made({LR: 0.01}, [0.5])] * 3
    same, _ = make_study(tmp_path / "same", alike)
    assert data_of(same)["importance"][0]["shares"] == []


def test_the_timeline_has_rows_of_slots_and_their_idle_time(study: dict[str, Any]) -> None:
    bars = {row: (lane, begin, end) for lane, row, begin, end, _ in study["slots"]["bars"]}
    assert bars[1] == (0, 0, 6)
    assert bars[0] == (1, 0, 10)
    assert bars[2] == (0, 6, 8)
    assert bars[3] == (0, 9, 10)
    assert bars[4] == (0, 10, 11.5), "a trial without a result ran until its last record"
    assert study["slots"]["lanes"] == 2
    # 10 + 6 + 2 + 1 + 1.5 of two slots' 11.5 seconds
    assert study["slots"]["text"].endswith(f"Idle in that time: {1 - 20.5 / 23:.1%}.")


def test_attempts_that_failed_or_were_interrupted_are_in_the_timeline(tmp_path: Path) -> None:
    made = [Made({LR: 0.01}, [0.5], span=(20, 30)), Made({LR: 0.02}, [0.5], span=(50, 60))]
    folder, _ = make_study(tmp_path / "mine", made)
    retried, resumed = folder.trial(0), folder.trial(1)
    info = json.loads(retried.info_file.read_text())
    retried.info_file.write_text(json.dumps({**info, "created": BEGAN + 1}))
    killed = {"status": "killed", "reason": "", "metrics": {}, "started": 0.0, "ended": BEGAN + 9}
    retried.attempts_file.write_text(json.dumps(killed) + "\n")
    info = json.loads(resumed.info_file.read_text())
    resumed.info_file.write_text(json.dumps({**info, "created": BEGAN + 31}))
    lines = [{"step": k, "time": BEGAN + 35 + k * 3, "metrics": {"a": 1}} for k in range(3)]
    resumed.records_file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    bars = [bar[1:] for bar in data_of(folder)["slots"]["bars"]]
    assert bars == [
        [0, 0, 8, "killed"],
        [0, 19, 29, "completed"],
        [1, 30, 40, "interrupted"],
        [1, 49, 59, "completed"],
    ]


def test_user_attributes_environment_and_data_are_shown(tmp_path: Path) -> None:
    folder, _ = make_study(tmp_path / "mine", [Made({LR: 0.1}, [0.5], attrs={"size": [1, 2]})])
    (folder.path / "origin.json").write_text(
        json.dumps({"commit": "abc", "has_changes": True, "packages": {"torch": "2.13"}})
    )
    (folder.trial(0).path / "data.json").write_text(
        json.dumps({"name": "digits", "sha256": {"a.npz": "f00"}, "examples": {"train": 8}})
    )
    study = data_of(folder)
    assert study["trials"]["attrs"] == {"0": {"size": "[1, 2]"}}
    assert study["environment"] == [["commit", "abc, with changes: diff.patch"], ["torch", "2.13"]]
    facts = [["name", "digits"], ["examples", "train: 8"], ["sha256 a.npz", "f00"]]
    assert study["data"] == [{"runs": 1, "facts": facts}]


def compare(tmp_path: Path, *studies: tuple[list[Made], dict[str, Any]]) -> list[str]:
    finished = [
        Finished(make_study(tmp_path / name, made, **more)[0])
        for name, (made, more) in zip("ab", studies, strict=True)
    ]
    return page.page_data(finished, tmp_path)["compared"]


def ended(*values: float) -> list[Made]:
    return [Made({LR: 0.01}, [value]) for value in values]


def test_the_difference_of_two_studies_is_a_sentence(tmp_path: Path) -> None:
    (said,) = compare(tmp_path, (ended(0.9, 0.91), {}), (ended(0.95, 0.8), {}))
    assert said.startswith(
        "The best of b has val/accuracy 0.95 (trial 0000), the best of a 0.91 (trial 0001): "
        "b is better by 0.04."
    )


def test_less_is_better_where_it_is_minimized(tmp_path: Path) -> None:
    down = {"directions": ["minimize"]}
    (said,) = compare(tmp_path, (ended(0.9), down), (ended(0.95), down))
    assert "a is better by 0.05" in said


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ((ended(0.9), {}), (ended(0.9), {}), "have the same val/accuracy, 0.9."),
        ((ended(0.9), {}), ([], {}), "cannot be compared: no trial of b has completed."),
        (
            (ended(0.9), {}),
            (ended(0.9), {"objective": ["loss"], "directions": ["minimize"]}),
            "one has to maximize val/accuracy, and one has to minimize loss.",
        ),
    ],
)
def test_what_cannot_be_told_apart_is_said(
    tmp_path: Path, first: Any, second: Any, words: str
) -> None:
    (said,) = compare(tmp_path, first, second)
    assert words in said


def test_fronts_are_compared_by_what_they_give_to_the_common_one(tmp_path: Path) -> None:
    two = {"objective": ["loss", "seconds"], "directions": ["minimize", "minimize"]}
    a = [Made({LR: 0.01}, pair) for pair in ([1, 9], [2, 5], [5, 5])]
    b = [Made({LR: 0.01}, pair) for pair in ([2, 4], [9, 1])]
    (said,) = compare(tmp_path, (a, two), (b, two))
    assert said == "On the Pareto front of a and b together are 1 trials of a and 2 of b."


def test_studies_of_one_name_are_told_apart(tmp_path: Path) -> None:
    folders = [make_study(tmp_path / week / "mine", POINTS[:1])[0] for week in ("old", "new")]
    data = page.page_data([Finished(folder) for folder in folders], None)
    assert [study["label"] for study in data["studies"]] == ["old/mine", "new/mine"]


class Elements(HTMLParser):
    """The elements of a page, and the texts of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.in_script = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self.in_script = tag == "script"
        if self.in_script:
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self.in_script = False

    def handle_data(self, data: str) -> None:
        if self.in_script:
            self.scripts[-1] += data


EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\x1b[31m\u202e${x}&"


def test_texts_from_a_study_are_data_only(tmp_path: Path) -> None:
    made = [Made({OPTIMIZER: "adam", EVIL: EVIL}, [], [], "crashed", f"crashed: {EVIL}"[:900])]
    folder, _ = make_study(
        tmp_path / "<b>mine</b>",
        made,
        space={OPTIMIZER: POINTS_SPACE, EVIL: choice(EVIL)},
        name="mine",
        command=["python", f"{EVIL}\ud800"],
    )
    page.write_page([Finished(folder)], folder.report)
    text = folder.report.read_text()
    assert "\x1b" not in text
    parsed = Elements(text)
    tags = [tag for tag, _ in parsed.found]
    assert "img" not in tags
    assert "b" not in tags
    assert tags.count("script") == 1 + 6
    (data,) = [json.loads(one) for one in parsed.scripts if one.startswith('{"studies"')]
    shown = EVIL.replace("\x1b", "\\x1b")
    assert data["studies"][0]["command"][1] == f"{shown}\ud800"
    assert data["studies"][0]["trials"]["reasons"]["0"].startswith(f"crashed: {shown}")


def choice(text: str) -> Any:
    from optuna.distributions import CategoricalDistribution

    return CategoricalDistribution([text])


POINTS_SPACE = choice("adam")


def test_the_page_needs_no_network_and_runs_no_other_script(folder: StudyDir) -> None:
    page.write_page([Finished(folder)], folder.report)
    parsed = Elements(folder.report.read_text())
    for tag, attrs in parsed.found:
        assert not attrs.keys() & {"src", "href", "srcset", "action"}, tag
    style = (Path(page.__file__).parent / "assets" / "page.css").read_text()
    assert "url(" not in style
    assert "@import" not in style
    (policy,) = [a["content"] for t, a in parsed.found if a.get("http-equiv")]
    assert "default-src 'none'" in policy
    assert "connect-src 'none'" in policy
    allowed = set(re.findall(r"'sha256-([^']+)'", policy))
    digests = {
        base64.b64encode(hashlib.sha256(one.encode()).digest()).decode()
        for one in parsed.scripts
        if not one.startswith('{"studies"')
    }
    assert digests == allowed


def test_a_link_in_the_place_of_the_report_is_replaced_and_not_followed(tmp_path: Path) -> None:
    folder, _ = make_study(tmp_path / "mine", POINTS)
    (tmp_path / "other").write_text("mine")
    folder.report.symlink_to(tmp_path / "other")
    page.write_page([Finished(folder)], folder.report)
    assert (tmp_path / "other").read_text() == "mine"
    assert not folder.report.is_symlink()


def test_a_file_that_is_no_report_is_kept(tmp_path: Path) -> None:
    folder, _ = make_study(tmp_path / "mine", POINTS)
    other = tmp_path / "index.html"
    other.write_text("<html>mine</html>")
    with pytest.raises(ConfigError, match=r"exists and is not a report of dlsweep"):
        page.main([folder.path], other)
    assert other.read_text() == "<html>mine</html>"
    with pytest.raises(ConfigError, match=r"nowhere is not a folder"):
        page.main([folder.path], tmp_path / "nowhere" / "a.html")
    fresh = tmp_path / "fresh.html"
    assert page.main([folder.path], fresh) == fresh
    assert page.main([folder.path], fresh) == fresh, "a report is replaced"


def test_a_study_without_a_trial_has_its_page(tmp_path: Path) -> None:
    folder, _ = make_study(tmp_path / "mine", [])
    assert page.main([folder.path], None) == folder.report
    study = data_of(folder)
    assert study["found"] == "No trial has begun. No trial has completed."
    assert study["slots"]["text"] == "No trial has run yet."


def test_a_folder_that_is_no_study_is_named(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"is not a study folder: it has no study\.json"):
        page.main([tmp_path], None)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "record",
    [
        {"name": 5},
        {"objective": "loss"},
        {"objective": [1]},
        {"directions": ["up"]},
        {"directions": []},
        {"command": {"a": 1}},
        {"objective": ["a", "b"], "directions": ["minimize", "minimize"]},
    ],
)
def test_a_strangers_record_of_the_wrong_kind_is_damaged(
    tmp_path: Path, record: dict[str, Any]
) -> None:
    folder, _ = make_study(tmp_path / "mine", POINTS[:1])
    known = json.loads(folder.info_file.read_text())
    folder.info_file.write_text(json.dumps({**known, **record}))
    with pytest.raises(StudyError, match=r"study\.json is damaged"):
        page.main([folder.path], None)


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("origin.json", "[1]", r"origin\.json is damaged"),
        ("trials/0000/run.json", '{"id": 1}', r"run\.json is damaged"),
        ("trials/0000/records.jsonl", "nonsense\n", r"records\.jsonl is damaged"),
        ("trials/0000/result.json", "[" * 100_000, r"result\.json is damaged"),
        ("trials/0000/data.json", "{", r"data\.json is damaged"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, file: str, text: str, words: str) -> None:
    folder, _ = make_study(tmp_path / "mine", POINTS[:1])
    (folder.path / file).write_text(text)
    with pytest.raises(StudyError, match=words):
        page.main([folder.path], None)


def test_numbers_of_a_stranger_are_left_out_if_they_are_none(tmp_path: Path) -> None:
    odd = {"started": "soon", "ended": [1], "status": {"a": 1}, "reason": "", "metrics": {}}
    folder, _ = make_study(
        tmp_path / "mine", POINTS[:1], created="then", n_trials=[], tracking=["mlflow"]
    )
    folder.trial(0).result_file.write_text(json.dumps(odd))
    study = data_of(folder)
    assert (study["created"], study["planned"], study["trackers"]) == (None, None, [])


def test_a_strangers_address_is_neither_called_nor_linked(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        uri = f"http://127.0.0.1:{server.getsockname()[1]}"
        tracking = {
            "mlflow": {"_target_": "evil_of_mine.Tracker", "tracking_uri": uri},
            "csv": {"_target_": "dlsweep.trackers.csv.CSVTracker"},
        }
        folder, _ = make_study(tmp_path / "mine", POINTS[:1], tracking=tracking)
        (folder.path / "evil_of_mine.py").write_text("raise SystemExit('executed')")
        page.main([folder.path], None)
        with pytest.raises(TimeoutError):
            server.accept()
    assert uri not in folder.report.read_text()
    mlflow, csv = data_of(folder)["trackers"]
    assert mlflow == {"name": "mlflow", "text": "at an address that no command of yours has named"}
    assert csv == {"name": "csv", "files": "csv"}


def test_the_trackers_of_a_study_of_yours_are_linked(tmp_path: Path) -> None:
    tracking = {
        "mlflow": {"tracking_uri": "http://me:secret@host:5000/"},
        "tensorboard": {},
        "wandb": {"project": "mine"},
    }
    folder, _ = make_study(tmp_path / "a b", POINTS[:2], tracking=tracking)
    addresses.remember({"tracking": tracking}, folder.path)
    state = folder.trial(1).mirror_file("mlflow")
    state.parent.mkdir()
    state.write_text(json.dumps({"state": {"run_id": "f00"}}))
    mlflow, tensorboard, wandb = data_of(folder)["trackers"]
    assert mlflow == {"name": "mlflow", "base": "http://host:5000/#/runs/", "ids": [None, "f00"]}
    assert tensorboard["command"] == f"tensorboard --logdir '{folder.path}/tensorboard'"
    assert wandb["command"] == f"wandb leet '{folder.path}/wandb'"
    page.main([folder.path], None)
    assert "secret" not in folder.report.read_text()


def test_a_page_is_ascii_whatever_a_folder_is_called() -> None:
    text = page.page({"studies": [{"label": "\u00fcber \udce9"}], "compared": []}, live="/\u00fc")
    assert text.isascii()
    assert "<title>&#252;ber &#56553;</title>" in text


def test_every_asset_is_ascii_and_short() -> None:
    """The page is written in whatever encoding the machine prefers, and people read its code."""
    for file in (Path(page.__file__).parent / "assets").iterdir():
        lines = file.read_text("ascii").splitlines()
        assert file.name == "echarts.min.js" or len(lines) < 400, file.name


def test_a_page_imports_neither_scikit_learn_nor_a_framework(folder: StudyDir) -> None:
    code = (
        "import sys; from pathlib import Path; from dlsweep.results.report import page\n"
        "page.main([Path(sys.argv[1])], None); print('\\n'.join(sys.modules))"
    )
    command = [sys.executable, "-c", code, str(folder.path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    slow = {"sklearn", "matplotlib", "plotly", "pandas", "torch", "tensorflow", "keras", "mlflow"}
    assert not slow & set(done.stdout.split()), "each takes a second or more"


def test_every_command_of_its_docs_works(tmp_path: Path) -> None:
    docs = (Path(__file__).parents[2] / "docs" / "report.md").read_text()
    (block,) = re.findall(r"```bash\n(.*?)```", docs, re.DOTALL)
    for name in ("mnist", "keras"):
        make_study(tmp_path / "outputs" / name, POINTS)
    for line in block.splitlines():
        program, *words = shlex.split(line)
        assert program == "python"
        subprocess.run([sys.executable, *words], cwd=tmp_path, check=True, timeout=60)
    pages = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.html")}
    assert pages == {"outputs/mnist/report.html", "report.html", "compared.html"}
