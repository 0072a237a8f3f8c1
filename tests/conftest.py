"""Fixtures that every room's tests share."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from omegaconf import DictConfig, OmegaConf

from dlsweep.folders.rundir import RunDir, RunInfo

if TYPE_CHECKING:  # only the tests of spaces pay for importing Optuna
    from hydra.core.config_loader import ConfigLoader
    from pages import Shell

    from dlsweep.sweep.compose import Composer
    from dlsweep.sweep.space import Scalar, SearchSpace

sys.path.append(str(Path(__file__).parent / "pages"))  # pages

# Each worker of the suite has a core of its own: threads of several would wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Where Python is told to write no compiled code, pytest would rewrite all assertions at each start.
sys.dont_write_bytecode = False

# A shell starts what it runs in the background with Ctrl-C ignored, and children inherit that. The
# commands that are tested run as at a terminal, however the suite was started.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--long-faults",
        action="store_true",
        help="try faults hundreds of times instead of a few, and those that take minutes; as "
        "`make faults` does",
    )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Has the quick part not even read what is slow as a whole: that imports the frameworks."""
    if collection_path.suffix != ".py" or "not slow" not in config.option.markexpr:
        return None
    marked = re.search(r"^pytestmark = .*\bslow\b", collection_path.read_text(), re.MULTILINE)
    return True if marked else None


@pytest.fixture(autouse=True, scope="session")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The list of addresses that commands have named, which is not that of whoever tests."""
    home = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(home))
        yield home / "dlsweep" / "addresses"


@pytest.fixture(autouse=True, scope="session")
def migrations() -> Iterator[None]:
    """Has Alembic read the migrations of Optuna once a worker, not for each database."""
    from alembic import util

    read = util.load_python_file
    known = cache(read)

    def once(folder: Any, name: str) -> Any:
        return read(folder, name) if name == "env.py" else known(folder, name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(util, "load_python_file", once)
        yield


@pytest.fixture(scope="session")
def warm() -> Iterator[Shell]:
    """A shell whose commands start in forks of processes that have imported a framework."""
    from pages import warm_shell

    with warm_shell() as shell:
        yield shell


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., RunDir]:
    """Makes a run folder as the driver would, from a config given as a dict."""

    def make(config: dict | None = None, name: str = "0000", **info: object) -> RunDir:
        folder = RunDir(tmp_path / "outputs" / "study" / "trials" / name)
        fields = {
            "id": uuid.uuid4().hex,
            "name": name,
            "study": "study",
            "number": int(name),
            "objective": ["val/accuracy"],
            "directions": ["maximize"],
            "overrides": [],
            "params": {},
            "tracking": {},
            "created": time.time(),
        }
        described = RunInfo(**{**fields, **info})
        folder.create(described, OmegaConf.create(config or {}))
        return folder

    return make


@pytest.fixture(scope="session")
def loader() -> ConfigLoader:
    """Hydra's loader of the shipped configs."""
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra._internal.utils import create_config_search_path

    from dlsweep.cli.search_path import conf_dir

    return ConfigLoaderImpl(create_config_search_path(str(conf_dir())))


@pytest.fixture(scope="session")
def master(loader: ConfigLoader) -> DictConfig:
    """The shipped config of a sweep, composed once a worker."""
    from hydra.types import RunMode

    return loader.load_configuration("config", overrides=[], run_mode=RunMode.MULTIRUN)


@pytest.fixture(scope="session")
def composer(loader: ConfigLoader, master: DictConfig) -> Composer:
    """Composes configs of the shipped groups, with two overrides fixed."""
    from dlsweep.sweep.compose import Composer

    return Composer(loader, master, ["training.epochs=2", "training/scheduler=step"])


@pytest.fixture(scope="session")
def make_space(composer: Composer) -> Callable[..., SearchSpace]:
    """Makes a space from sweep overrides; keywords give the conditions of a key."""
    from dlsweep.sweep.space import SearchSpace, dimension_of

    def make(*texts: str, when: dict[str, Any] | None = None) -> SearchSpace:
        conditions: dict[str, dict[str, list[Scalar]]] = when or {}
        parsed = composer.parse(texts)
        return SearchSpace(
            [dimension_of(one, conditions.get(one.key_or_group)) for one in parsed], composer
        )

    return make


class Dying:
    """A client, such as MLflow's, whose process dies before one of its calls."""

    class Crash(Exception):  # noqa: N818
        """The death."""

    def __init__(self, client: Any, calls: int) -> None:
        self._client = client
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        self._calls -= 1
        if self._calls < 0:
            raise Dying.Crash
        return getattr(self._client, name)


@pytest.fixture
def dying() -> type[Dying]:
    """Wraps a client; its ``Crash`` is raised after that many calls."""
    return Dying
