"""OptunaHub's packages are run at a known commit or from a local copy, and never otherwise."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest

from dlsweep.errors import ConfigError, MissingExtraError
from dlsweep.sweep import hub

PACKAGE = "samplers/edge"
CODE = """
import optuna

class EdgeSampler(optuna.samplers.RandomSampler):
    def __init__(self, seed=None, edge={edge}):
        super().__init__(seed=seed)
        self.edge = edge
"""


def write(registry: Path, edge: float = 0.0, package: str = PACKAGE, names: str = "") -> None:
    """Writes a package as OptunaHub's registry has it."""
    folder = registry / package
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sampler.py").write_text(CODE.format(edge=edge))
    public = names or '["EdgeSampler"]'
    text = f"from .sampler import EdgeSampler\nimport optuna\n__all__ = {public}\n"
    (folder / "__init__.py").write_text(f"{text}class Other(optuna.samplers.RandomSampler): ...\n")


@pytest.fixture
def copy(tmp_path: Path) -> str:
    """A local copy of a registry."""
    write(tmp_path / "package")
    return str(tmp_path / "package")


def test_a_sampler_of_a_local_copy(copy: str) -> None:
    found = hub.sampler(package=PACKAGE, registry_root=copy, seed=3, edge=2)
    assert isinstance(found, optuna.samplers.RandomSampler)
    assert (type(found).__name__, vars(found)["edge"]) == ("EdgeSampler", 2)


def test_of_several_samplers_one_is_named(copy: str) -> None:
    write(Path(copy), names='["EdgeSampler", "Other", "optuna"]')
    with pytest.raises(ConfigError, match=r"Received None\. Expected .*: EdgeSampler, Other"):
        hub.sampler(package=PACKAGE, registry_root=copy)
    with pytest.raises(ConfigError, match="Did you mean 'Other'"):
        hub.sampler(package=PACKAGE, registry_root=copy, name="Othe")
    found = hub.sampler(package=PACKAGE, registry_root=copy, name="Other")
    assert type(found).__name__ == "Other"


def test_a_pruner_of_a_local_copy(tmp_path: Path) -> None:
    folder = tmp_path / "pruners" / "mine"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(
        "import optuna\nclass Mine(optuna.pruners.ThresholdPruner): ...\n"
    )
    found = hub.pruner(package="pruners/mine", registry_root=str(tmp_path), upper=1.0)
    assert isinstance(found, optuna.pruners.ThresholdPruner)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "Received no ref and no registry_root"),
        ({"ref": "0" * 40, "registry_root": "."}, "Received ref and registry_root"),
        ({"ref": "main"}, "Received 'main'. Expected the 40 hex digits of a commit"),
        ({"ref": "v1.0"}, "can change, and it is run"),
        ({"ref": 123}, "Received 123. Expected the 40 hex digits"),
        ({"registry_root": "nowhere"}, "cannot be loaded from nowhere"),
        ({"package": None}, "Received None. Expected a package of OptunaHub"),
        ({"package": "pruners/edge"}, "Expected a package of OptunaHub, such as samplers/<name>"),
        ({"package": "samplers/../../edge"}, "Expected a package of OptunaHub"),
    ],
)
def test_what_is_not_pinned_or_not_there_is_refused(
    options: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as error:
        hub.sampler(**{"package": PACKAGE, **options})
    assert message in str(error.value)


def test_a_sampler_that_needs_another_package_says_which(copy: str) -> None:
    (Path(copy) / PACKAGE / "sampler.py").write_text("import no_such_package\n")
    with pytest.raises(MissingExtraError, match="pip install no_such_package"):
        hub.sampler(package=PACKAGE, registry_root=copy)


def test_without_optunahub_the_extra_is_named(copy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optunahub", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'dlsweep\[hub\]'"):
        hub.sampler(package=PACKAGE, registry_root=copy)


def git(folder: Path, *arguments: str) -> str:
    author = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    command = ["git", "-C", str(folder), *author, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def github(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A registry that git fetches instead of the one on github.com."""
    registry = tmp_path / "github" / "optuna" / "optunahub-registry"
    registry.mkdir(parents=True)
    git(registry, "init", "-q")
    git(registry, "config", "uploadpack.allowAnySHA1InWant", "true")
    monkeypatch.setenv("OPTUNAHUB_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.file://{tmp_path}/github/.insteadOf")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "https://github.com/")
    return registry


def commit(registry: Path, edge: float) -> str:
    write(registry / "package", edge)
    git(registry, "add", "-A")
    git(registry, "commit", "-q", "-m", "a version")
    return git(registry, "rev-parse", "HEAD")


def test_a_pinned_commit_stays_what_it_was(github: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = commit(github, 1.0), commit(github, 2.0)
    for ref, edge in ((first, 1.0), (second, 2.0)):
        assert vars(hub.sampler(package=PACKAGE, ref=ref))["edge"] == edge
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "url.file:///nowhere/.insteadOf")
    assert vars(hub.sampler(package=PACKAGE, ref=first))["edge"] == 1.0, "it is cached"


@pytest.mark.parametrize("missing", ["commit", "package", "network"])
def test_a_download_that_cannot_happen_is_a_sentence(
    github: Path, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = commit(github, 1.0) if missing != "commit" else "0" * 40
    if missing == "network":
        monkeypatch.setenv("GIT_CONFIG_KEY_0", "url.http://127.0.0.1:9/.insteadOf")
    package = "samplers/unknown" if missing == "package" else PACKAGE
    with pytest.raises(ConfigError, match=f"{package} cannot be loaded from OptunaHub's commit"):
        hub.sampler(package=package, ref=ref)
