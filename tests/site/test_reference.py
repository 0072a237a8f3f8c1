"""The pages that are read from the code are current; those written by hand name what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dlsweep import errors
from dlsweep.folders import rundir, studydir
from reference import config
from reference.__main__ import PAGES

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "reference"


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_current(name: str) -> None:
    written = (FOLDER / name).read_text()
    assert written == PAGES[name](), f"docs/reference/{name} is old. Type  make reference"


@pytest.mark.parametrize("name", ["config.md", "sweep.md"])
def test_every_key_has_a_meaning(name: str) -> None:
    rows = re.findall(r"^\| `[\w.]+` \|.*", PAGES[name](), re.MULTILINE)
    assert len(rows) > 20
    assert [row for row in rows if row.endswith("|  |") and "none" not in row] == []


def test_a_key_is_read_with_type_default_and_comment() -> None:
    option = config.read(ROOT / "conf" / "training" / "default.yaml")
    keys = {key.name: key for key in option.keys}
    assert keys["training.clip_norm"] == config.Key(
        "training.clip_norm", "null", "`float or null`", "largest gradient norm"
    )
    assert keys["training.precision"].type == "`fp32 or bf16 or fp16`"
    assert keys["training.monitor"].meaning.startswith("The metric of the best checkpoint")
    assert keys["training.loader.workers"].default == "0"
    assert option.targets["training.early_stopping"] == "dlsweep.trainers.EarlyStopping"


def test_every_kind_of_error_is_explained() -> None:
    page = (FOLDER / "errors.md").read_text()
    kinds = re.findall(r"[├└]── (\w+)", errors.__doc__ or "")
    assert len(kinds) >= 14
    assert [kind for kind in kinds if f"| `{kind}` |" not in page] == []


@pytest.mark.parametrize("module", [rundir, studydir])
def test_every_file_of_a_folder_is_listed(module: object) -> None:
    page = (FOLDER / "folders.md").read_text()
    names = re.findall(r"^    (\S+?)[, ]", module.__doc__ or "", re.MULTILINE)
    assert len(names) > 10
    known = [name.replace("0007/", "") for name in names]
    assert [name for name in known if name.partition("<")[0] not in page] == []


def test_every_public_name_has_its_docstring_on_a_page() -> None:
    public = re.findall(r"^\| `([\w.]+)`", (ROOT / "docs/api.md").read_text(), re.MULTILINE)
    pages = "".join(page.read_text() for page in (FOLDER / "python").glob("*.md"))
    shown = set(re.findall(r"^(?:::: |      heading: )([\w.]+)$", pages, re.MULTILINE))
    assert [name for name in public if name not in shown] == []
