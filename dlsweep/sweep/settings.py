"""Reads the settings of a sweep from ``hydra.sweeper`` and the command line."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dlsweep.drive.driver import recorded_tracking
from dlsweep.errors import ConfigError, SpaceError
from dlsweep.folders.database import sqlite_url
from dlsweep.folders.reserved import OBJECTIVE
from dlsweep.folders.rundir import Status
from dlsweep.folders.studydir import StudyDir
from dlsweep.results.database import check_package
from dlsweep.run.keeping import Keep, read_keep
from dlsweep.security import secrets
from dlsweep.sweep import earlier
from dlsweep.sweep.app import App
from dlsweep.sweep.compose import Composer, key_of, leaves
from dlsweep.sweep.earlier import EarlierStudy
from dlsweep.sweep.failures import Policy, read_policies
from dlsweep.sweep.identity import identity_text
from dlsweep.sweep.pbt import check_population
from dlsweep.sweep.space import Dimension, Scalar, SearchSpace, dimension_of
from dlsweep.sweep.storage import Direction
from dlsweep.sweep.study import StudySettings

#: Keys that may differ between two calls of the same study, because they change no result.
_CIRCUMSTANCES = ("launcher", "tracking", "outputs", "framework.preload", "system_metrics")


@dataclass(frozen=True)
class SweepSettings:
    """The limits of a sweep, and how it runs.

    Attributes:
        n_trials: The number of trials in all; None for no limit.
        n_jobs: The number of trials at a time; None for as many as there are slots.
        timeout: Seconds after which the sweep stops; None for no limit.
        max_failure_rate: The share of finished trials that may fail.
        failures: The policy for each status other than a good one.
        grid: Whether to run every point once, in order, instead of asking a sampler.
        exhaustive: Whether every point is tried once at most: a grid, or a sampler that does so.
        tracking: Trackers by name.
        keep: What stays of ended trials' checkpoints; None to go on as the study has begun.
        predict_memory: Whether points that would not fit into memory are not launched.
    """

    n_trials: int | None
    n_jobs: int | None
    timeout: float | None
    max_failure_rate: float
    failures: dict[Status, Policy]
    grid: bool
    exhaustive: bool
    tracking: dict[str, Any]
    keep: Keep | None
    predict_memory: bool


def ask(
    app: App, options: Mapping[str, Any], arguments: Sequence[str], folder: StudyDir
) -> tuple[StudySettings, SearchSpace, SweepSettings]:
    """Reads all settings of a sweep.

    Args:
        app: The app whose runs are launched.
        options: The keys of ``hydra.sweeper``.
        arguments: The overrides of the command line.
        folder: The study folder.

    Raises:
        ConfigError, SpaceError: If the settings are not valid.
    """
    space, from_command_line = read_space(app, options["params"], arguments)
    # Hydra has resolved the sweeper's interpolations; the composer's config is still unresolved.
    written, sweeper = space.unswept(), app.config.hydra.sweeper
    raw = OmegaConf.to_container(sweeper)
    assert isinstance(raw, dict)
    secrets.check_database("hydra.sweeper.storage", str(raw.get("storage") or ""))
    for config in (written, sweeper, app.config.hydra.job):
        secrets.check(config, arguments)
    tracking = (written if app.is_own else sweeper).get("tracking")
    options = {**options, "tracking": recorded_tracking(tracking)}
    settings = sweep_settings(app, options, space, from_command_line)
    return study_settings(options, space, folder, settings), space, settings


def read_space(
    app: App, params: Mapping[str, Any], arguments: Sequence[str]
) -> tuple[SearchSpace, bool]:
    """Returns the search space, and whether the command line gave it. If so, it is all of it.

    Without any swept key, the space has one point: as in Hydra, ``-m`` runs the one job.
    """
    parser = app.composer([])
    given = parser.parse(arguments)
    swept = [override for override in given if override.is_sweep_override()]
    fixed = [override for override in given if not override.is_sweep_override()]
    for override in given:
        if override.key_or_group == "experiment" and override.is_sweep_override():
            raise SpaceError(
                "experiment cannot be swept: an experiment brings its own space and study.\n"
                "Run one sweep for each."
            )
    dimensions = [dimension_of(override) for override in swept]
    fixed_keys = {key_of(override) for override in fixed}
    for dimension in dimensions:
        if dimension.key in fixed_keys:
            raise SpaceError(f"{dimension.key} is both swept and fixed. Expected one of the two.")
    if not swept:
        for key, entry in params.items():
            if key.lstrip("+") not in fixed_keys:
                override, when = _parse_param(parser, key, entry)
                if override.is_sweep_override():
                    dimensions.append(dimension_of(override, when))
                else:
                    fixed.append(override)
    texts = [override.input_line or "" for override in fixed]
    return SearchSpace(dimensions, app.composer(texts)), bool(swept) or not dimensions


def _parse_param(
    parser: Composer, key: str, entry: Any
) -> tuple[Override, dict[str, list[Scalar]]]:
    when: dict[str, list[Scalar]] = {}
    if isinstance(entry, dict) and "space" in entry:
        if unknown := set(entry) - {"space", "when"}:
            raise SpaceError(
                f"hydra.sweeper.params.{key}: Received the key {sorted(unknown)[0]!r}. "
                "Expected space and when."
            )
        for name, values in (entry.get("when") or {}).items():
            when[name] = values if isinstance(values, list) else [values]
        entry = entry["space"]
    return parser.parse([f"{key}={entry}"])[0], when


def sweep_settings(
    app: App, options: Mapping[str, Any], space: SearchSpace, from_command_line: bool
) -> SweepSettings:
    """Reads the limits of a sweep.

    A finite space is run as a grid, every point once and none pruned, if the command line gives the
    space or there is no ``n_trials``. A sampler or ``n_trials`` on the command line turns that off.

    Raises:
        ConfigError: If a limit is out of range, or missing for an infinite space.
    """
    asks_sampler = bool(space.dimensions) and any(
        text.startswith(("hydra.sweeper.n_trials=", "hydra/sweeper/sampler="))
        for text in app.hydra_overrides
    )
    n_trials = options["n_trials"]
    exhaustive = space.is_finite and _tries_each_once(options["sampler"])
    grid = space.is_finite and not asks_sampler and (from_command_line or n_trials is None)
    if grid or (n_trials is None and space.is_finite):
        n_trials = space.count()
    elif n_trials is None and options["timeout"] is None:
        raise ConfigError(
            "The space is infinite, so the sweep needs a limit.\n"
            "Type  hydra.sweeper.n_trials=<count>  or  hydra.sweeper.timeout=<seconds>"
        )
    elif (n_trials or 0) > 0 and exhaustive:
        # Asked for more, while others still run, Optuna's samplers repeat points.
        n_trials = space.count(n_trials)
    for name in ("n_trials", "n_jobs"):
        if options[name] is not None and options[name] < 1:
            raise ConfigError(
                f"hydra.sweeper.{name}: Received {options[name]}. Expected 1 or more."
            )
    if not 0 <= options["max_failure_rate"] <= 1:
        raise ConfigError(
            f"hydra.sweeper.max_failure_rate: Received {options['max_failure_rate']}. "
            "Expected a share from 0 to 1."
        )
    return SweepSettings(
        n_trials,
        options["n_jobs"],
        options["timeout"],
        options["max_failure_rate"],
        read_policies(options["failures"]),
        grid,
        grid or exhaustive,
        options["tracking"],
        None if options["keep"] is None else read_keep("hydra.sweeper.keep", options["keep"]),
        options["predict_memory"],
    )


def _tries_each_once(sampler: Mapping[str, Any]) -> bool:
    return str(sampler["_target_"]).endswith((".GridSampler", ".BruteForceSampler"))


def study_settings(
    options: Mapping[str, Any],
    space: SearchSpace,
    folder: StudyDir,
    settings: SweepSettings,
) -> StudySettings:
    """Reads the settings of a study.

    Raises:
        ConfigError: If the numbers of objectives and directions differ, or an earlier study cannot
            start this one warm.
        StudyError: If an earlier study cannot be read.
    """
    directions = options["direction"]
    directions = directions if isinstance(directions, list) else [directions]
    objective = options["metric"] or _unnamed_objectives(len(directions))
    objective = objective if isinstance(objective, list) else [objective]
    if len(directions) != len(objective):
        raise ConfigError(
            f"hydra.sweeper: Received {len(objective)} metrics and {len(directions)} directions. "
            "Expected equal numbers."
        )
    ways = [_direction(text) for text in directions]
    warm_start = earlier.read(options["warm_start"], folder, objective, ways)
    if warm_start and settings.grid:
        raise ConfigError(
            "hydra.sweeper.warm_start: This sweep runs every point once, without a sampler that "
            "could learn from other studies.\nType  hydra/sweeper/sampler=tpe  "
            "hydra.sweeper.n_trials=<count>"
        )
    check_package(options["storage"] or "")
    pruner = options["pruner"] or {}
    is_pruned = not settings.grid and "_target_" in pruner  # else options of an experiment
    pruner = _with_max_resource(pruner, space) if is_pruned else pruner
    check_population(pruner, settings.n_trials, settings.grid)
    return StudySettings(
        name=options["study_name"] or "default",
        storage=options["storage"] or sqlite_url(folder.database),
        objective=objective,
        directions=ways,
        sampler=options["sampler"],
        pruner=pruner if is_pruned else {},
        seed=options["seed"],
        enqueue=options["enqueue"],
        warm_start=warm_start,
        identity=_identity(space, warm_start),
        resolved=_resolved(space),
    )


def _with_max_resource(pruner: dict[str, Any], space: SearchSpace) -> dict[str, Any]:
    """Fills in how many epochs a training has, for a pruner that must know it.

    Raises:
        ConfigError: If the config does not tell.
    """
    if pruner.get("max_resource") != "auto" or not pruner["_target_"].startswith("dlsweep."):
        return pruner  # Optuna's own pruners find out
    epochs = OmegaConf.select(space.unswept(), "training.epochs")
    if not isinstance(epochs, int) or any(o.key == "training.epochs" for o in space.dimensions):
        raise ConfigError(
            "hydra.sweeper.pruner.max_resource: Received auto, which is training.epochs, and that "
            f"is {'swept' if isinstance(epochs, int) else 'no number'} here.\n"
            "Expected the last step of a training:  hydra.sweeper.pruner.max_resource=<step>"
        )
    return {**pruner, "max_resource": epochs}


def _unnamed_objectives(count: int) -> list[str]:
    """Names for the values that an app returns: ``objective``, or ``objective_0`` and so on."""
    return [OBJECTIVE] if count == 1 else [f"{OBJECTIVE}_{number}" for number in range(count)]


def _direction(text: str) -> Direction:
    if text in ("min", "minimize"):
        return "minimize"
    if text not in ("max", "maximize"):
        raise ConfigError(
            f"hydra.sweeper.direction: Received {text!r}. Expected minimize or maximize."
        )
    return "maximize"


def _identity(space: SearchSpace, warm_start: Sequence[EarlierStudy]) -> dict[str, str]:
    """Returns the identity of a study: its search space, every fixed value, its warm start."""
    identity = {f"space of {one.key}": _space_text(one) for one in space.dimensions}
    if warm_start:
        identity["hydra.sweeper.warm_start"] = identity_text([one.folder for one in warm_start])
    swept = {one.key for one in space.dimensions}
    for key, value in leaves(space.unswept()):
        is_circumstance = key.startswith(_CIRCUMSTANCES)
        if not (is_circumstance or key in swept or isinstance(value, dict)):
            identity[key] = identity_text(value)
    return identity


def _resolved(space: SearchSpace) -> dict[str, str]:
    """Returns the value of each interpolation that has one without the swept values."""
    config = space.unswept()
    found = {}
    for key, value in leaves(config):
        if isinstance(value, str) and "${" in value:
            with contextlib.suppress(OmegaConfBaseException):
                found[key] = identity_text(OmegaConf.select(config, key))
    return found


def _space_text(dimension: Dimension) -> str:
    return dimension.text + (f" when {identity_text(dimension.when)}" if dimension.when else "")
