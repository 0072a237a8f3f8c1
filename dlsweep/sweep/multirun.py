"""Runs ``-m``: starts the warm parent first, so that it imports while the rest is prepared."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from dlsweep.drive.driver import Driver, Limits, check_trackers
from dlsweep.drive.progress import Counts, View
from dlsweep.drive.views import make_view
from dlsweep.errors import ConfigError, DlsweepError, room_to_write
from dlsweep.folders.lease import locked
from dlsweep.folders.studydir import StudyDir, refuse_address
from dlsweep.launchers.base import Launcher, with_environment
from dlsweep.launchers.local import LocalLauncher
from dlsweep.launchers.snapshot import take
from dlsweep.sweep.app import App
from dlsweep.trial.signature import build


def multirun(app: App, options: Mapping[str, Any], arguments: Sequence[str]) -> None:
    """Runs a sweep, or prints its plan.

    Args:
        app: The app whose runs are launched.
        options: The keys of ``hydra.sweeper``.
        arguments: The overrides of the command line.

    Raises:
        DlsweepError: If the user must fix something. No trial has started then.
    """
    ignored = app.check()
    options = {name: _plain(value) for name, value in options.items()}
    refuse_address(app.config.hydra.sweep.dir)
    folder = StudyDir(app.config.hydra.sweep.dir)
    if options["plan"]:
        _plan(app, options, arguments, folder)
        return
    view = make_view([], Counts(), options["progress"])
    for sentence in ignored:
        view.say(sentence)
    try:
        _sweep(app, options, arguments, folder, view)
    except DlsweepError as error:
        view.over("error", error=str(error))
        raise


def _sweep(
    app: App,
    options: Mapping[str, Any],
    arguments: Sequence[str],
    folder: StudyDir,
    view: View,
) -> None:
    # Trials of other apps set these variables themselves.
    env_set = dict(app.config.hydra.job.env_set) if app.is_own else {}
    os.environ.update(env_set)
    tracking = options["tracking"] or {}
    check_trackers(tracking)
    launcher = _launcher(options["launcher"], env_set)
    view.counts.slots = launcher.free_slots
    driver = Driver(
        launcher, folder.path, view, bool(tracking), Limits.read(options), most=options["n_jobs"]
    )
    folder.create()
    # Locked first: a driver that starts ends what others have started.
    with room_to_write(folder.path), locked(folder) as driver_id, driver:
        from dlsweep.sweep.earlier import store
        from dlsweep.sweep.settings import ask
        from dlsweep.sweep.study import Study  # imports Optuna, which takes a while
        from dlsweep.sweep.sweep import Sweep

        asked, space, settings = ask(app, options, arguments, folder)
        launcher.code = take(Path.cwd(), folder.path)
        with closing(Study(asked, space, folder)) as study:
            for note in study.notes:
                view.say(note)
            store(asked.warm_start, folder)
            sweep = Sweep(app, folder, study, settings, driver, driver_id)
            sweep.run()
    sweep.keeper.conclude()
    sweep.print_result()


def _plan(app: App, options: Mapping[str, Any], arguments: Sequence[str], folder: StudyDir) -> None:
    from dlsweep.sweep.plan import show_plan
    from dlsweep.sweep.settings import ask

    asked, space, settings = ask(app, options, arguments, folder)
    if options["plan"] not in (True, "json"):
        raise ConfigError(
            f"hydra.sweeper.plan: Received {options['plan']!r}. Expected true, false or json."
        )
    show_plan(asked, space, settings.n_trials, settings.grid, options["plan"] == "json")


def _launcher(config: Mapping[str, Any] | None, env_set: Mapping[str, str]) -> Launcher:
    if config:
        launcher = build("launcher", with_environment(config, env_set))
    else:
        launcher = LocalLauncher(preload=_imported())
    if not isinstance(launcher, Launcher):
        raise ConfigError(f"launcher: Received {type(launcher).__name__}. Expected a Launcher.")
    return launcher


def _imported() -> list[str]:
    """Returns the frameworks that a user's app has imported: its trials will import them too."""
    found: list[str] = [one for one in ("torch", "tensorflow", "keras") if one in sys.modules]
    if "torch" in found:
        found.append("torch._dynamo")  # the first optimizer would import it, which takes a second
    return found


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
