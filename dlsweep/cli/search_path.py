"""Where Hydra looks for YAML: the user's ``./conf`` first, then the ``conf`` that ships."""

from __future__ import annotations

from pathlib import Path

import hydra
from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin

#: Arguments of Hydra's entry points: 1.3 warns without a version base, later versions with one.
VERSION_BASE = {"version_base": "1.3"} if hydra.__version__.startswith("1.3.") else {}


def conf_dir() -> Path:
    """The shipped ``conf`` folder: inside an installed package, beside an editable one."""
    package = Path(__file__).parents[1]
    return package / "conf" if (package / "conf").is_dir() else package.parent / "conf"


def user_conf() -> Path | None:
    """The ``conf`` folder of the current directory, where that is not the shipped one."""
    own = Path.cwd() / "conf"
    return own if own.is_dir() and own.resolve() != conf_dir().resolve() else None


def conf_folders() -> list[Path]:
    """The folders of YAML that are trusted: the user's, if there is one, and the shipped one."""
    return [folder for folder in (user_conf(), conf_dir()) if folder]


class UserConf(SearchPathPlugin):
    """Has the ``conf`` folder of the current directory searched first, then the shipped one."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Puts the user's folder in front, if there is one."""
        if own := user_conf():
            search_path.prepend("user", f"file://{own}")
