"""A Hydra app: how its configs are composed, and the command that runs it once."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from hydra._internal.utils import get_args_parser  # else flags would be parsed anew, by hand
from hydra.core.config_loader import ConfigLoader
from hydra.types import TaskFunction
from omegaconf import DictConfig, OmegaConf

from dlsweep.errors import ConfigError
from dlsweep.sweep.compose import Composer

#: Writes the return value of a user's app into the run folder.
_CALLBACK = "dlsweep.trial.reporting.ResultCallback"
#: Overrides that concern the sweep; a trial gets all other ``hydra.…`` overrides. It also gets the
#: choices of ``hydra/…`` groups: the app's YAML may choose plugins that are not installed.
_OF_THE_SWEEP = re.compile(r"[+~]*hydra\.(sweeper|launcher|sweep|mode|run\.dir|job\.(num|id))\b")
#: Keys of Hydra's Optuna sweeper, and what to write instead.
_OF_THE_OFFICIAL_SWEEPER = {
    "search_space": "Write the space under hydra.sweeper.params, such as  x: interval(-5,5)",
    "custom_search_space": "Conditions are part of the space:  x: {space: interval(0,1), when: "
    "{model: mlp}}",
    "optuna_config": "Write its keys under hydra.sweeper: direction, study_name, storage, "
    "n_trials, n_jobs, sampler, seed.",
}


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

    @property
    def hydra_overrides(self) -> list[str]:
        """The ``hydra.…`` overrides of the command line, interpolations unresolved."""
        texts = OmegaConf.to_container(self.config.hydra.overrides.hydra)
        assert isinstance(texts, list)
        return [str(text) for text in texts]

    @property
    def alone(self) -> list[str]:
        """The overrides with which a user's app, pasted into a shell, does one run.

        Its YAML may ask for a sweep, with a plugin that is not installed.
        """
        chosen = [text for text in self.hydra_overrides if text.startswith("hydra/")]
        return [*chosen, "hydra.mode=RUN"] if chosen and not self.is_own else []

    def composer(self, fixed: Sequence[str]) -> Composer:
        """Returns a composer of this app's configs, with some overrides fixed."""
        return Composer(self.loader, self.config, fixed)

    def argv(self, overrides: Sequence[str], folder: Path) -> list[str]:
        """Returns the arguments after ``python`` that do one run in a folder."""
        run_dir = f"hydra.run.dir={quoted(str(folder))}"
        if self.is_own:
            return [*self.command, *overrides, run_dir]
        job = [f"hydra.job.num={int(folder.name)}", f"hydra.job.id='{folder.name}'"]
        kept = [text for text in self.hydra_overrides if not _OF_THE_SWEEP.match(text)]
        callback = f"++hydra.callbacks.dlsweep._target_={_CALLBACK}"
        return [*self.command, *overrides, *kept, *job, run_dir, "hydra.mode=RUN", callback]

    def check(self) -> list[str]:
        """Checks what a user's app asks of Hydra; returns sentences about what it will not get.

        Raises:
            ConfigError: If the app has a launcher of Hydra's, or options of its Optuna sweeper.
        """
        if self.is_own:
            return []
        node = self.config.hydra
        for key, instead in _OF_THE_OFFICIAL_SWEEPER.items():
            if node.sweeper.get(key) is not None:
                raise ConfigError(
                    f"hydra.sweeper.{key}: dlsweep's sweeper does not have this key of Hydra's "
                    f"Optuna sweeper.\n{instead}"
                )
        launcher = node.runtime.choices.get("hydra/launcher")
        if launcher not in (None, "basic"):
            raise ConfigError(
                f"hydra/launcher: Received {launcher!r}. dlsweep launches trials itself, each in a "
                "process of its own.\nExpected hydra/launcher=basic. Type  hydra.sweeper.n_jobs="
                "<count>  for the number of trials at a time, and hydra.sweeper.launcher for slots."
            )
        asked = cast(dict[str, Any], OmegaConf.to_container(node.sweep))
        sentences = []
        if asked.get("subdir") not in (None, "${hydra.job.num}"):
            sentences.append("hydra.sweep.subdir is ignored: a trial's folder is trials/<number>.")
        if "${now:" in str(asked.get("dir")):
            sentences.append(
                "hydra.sweep.dir contains ${now:…}: the same command starts a new study. To resume "
                f"this one, add  hydra.sweep.dir={quoted(str(node.sweep.dir))}"
            )
        return sentences


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
