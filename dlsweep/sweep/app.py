"""A Hydra app: how its configs are composed, and the command that runs it once."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra._internal.utils import get_args_parser  # else flags would be parsed anew, by hand
from hydra.core.config_loader import ConfigLoader
from hydra.types import TaskFunction
from omegaconf import DictConfig

from dlsweep.sweep.compose import Composer

#: Writes the return value of a user's app into the run folder.
_CALLBACK = "dlsweep.trial.reporting.ResultCallback"


@dataclass(frozen=True)
class App:
    """A Hydra app that a sweep can launch.

    Attributes:
        command: The arguments after ``python`` that run it, without overrides.
        is_own: Whether it is dlsweep's own app, not a user's ``@hydra.main`` script.
        loader: Hydra's config loader.
        config: The config of this call, with the node ``hydra``.
    """

    command: tuple[str, ...]
    is_own: bool
    loader: ConfigLoader
    config: DictConfig

    @classmethod
    def of(cls, function: TaskFunction, loader: ConfigLoader, config: DictConfig) -> App:
        """Returns the app that this process runs."""
        is_own = function.__module__ == "dlsweep.cli.main"
        command = ("-m", "dlsweep") if is_own else _main_command()
        return cls((*command, *_config_flags()), is_own, loader, config)

    def composer(self, fixed: Sequence[str]) -> Composer:
        """Returns a composer of this app's configs, with some overrides fixed."""
        return Composer(self.loader, self.config, fixed)

    def argv(self, overrides: Sequence[str], folder: Path) -> list[str]:
        """Returns the arguments after ``python`` that do one run in a folder."""
        argv = [*self.command, *overrides, f"hydra.run.dir={quoted(str(folder))}"]
        if not self.is_own:
            argv += ["hydra.mode=RUN", f"++hydra.callbacks.dlsweep._target_={_CALLBACK}"]
        return argv


def quoted(text: str) -> str:
    """Quotes a text as a value in Hydra's override grammar."""
    return text if text.replace("/", "").replace("-", "").replace("_", "").isalnum() else repr(text)


def _main_command() -> tuple[str, ...]:
    spec = sys.modules["__main__"].__spec__
    if spec is not None:
        return ("-m", spec.name.removesuffix(".__main__"))
    return (os.path.abspath(sys.argv[0]),)


def _config_flags() -> tuple[str, ...]:
    """Returns this call's flags for config folders and names; trials need the same ones."""
    args, _ = get_args_parser().parse_known_args()
    flags: tuple[str, ...] = ()
    if args.config_name:
        flags += ("--config-name", args.config_name)
    if args.config_path:
        flags += ("--config-path", args.config_path)
    if args.config_dir:
        flags += ("--config-dir", os.path.abspath(args.config_dir))
    return flags
