"""Where Hydra looks for YAML: the user's ``./conf`` first, then the ``conf`` that ships."""

from __future__ import annotations

from pathlib import Path

import hydra
from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin

#: Arguments of Hydra's entry points: Hydra 1.3 warns without a version base, 1.4 with one.
VERSION_BASE = {"version_base": "1.3"} if hydra.__version__.startswith("1.3.") else {}


def conf_dir() -> Path:
    """Returns the shipped ``conf`` folder: inside an installed package, beside an editable one."""
    package = Path(__file__).parents[1]
    return package / "conf" if (package / "conf").is_dir() else package.parent / "conf"


def user_conf() -> Path | None:
    """Returns ``./conf`` of the current folder, if it exists and is not the shipped one."""
    own = Path.cwd() / "conf"
    return own if own.is_dir() and own.resolve() != conf_dir().resolve() else None


def own_root() -> str:
    """Returns a remark for errors: the user's folder has a root config, maybe that of an app."""
    own = user_conf()
    if own is None or not (own / "config.yaml").exists():
        return ""
    return (
        f"\n{own / 'config.yaml'} takes the place of dlsweep's root config.\nIf it is that of a "
        "@hydra.main script of yours, run dlsweep's experiments in another folder."
    )


def conf_folders() -> list[Path]:
    """Returns the trusted YAML folders: the user's, if there is one, and the shipped one."""
    return [folder for folder in (user_conf(), conf_dir()) if folder]


class UserConf(SearchPathPlugin):
    """A Hydra plugin that searches the user's ``./conf`` first, then the shipped ``conf``."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Puts the user's folder first, if there is one."""
        if own := user_conf():
            search_path.prepend("user", f"file://{own}")
