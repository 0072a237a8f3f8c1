"""A single run. It uses the same process, folder and mirror as a trial of a sweep."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from dlsweep.drive.driver import Driver, Limits, check_trackers, recorded_tracking
from dlsweep.drive.preflight import preflight
from dlsweep.drive.progress import Counts, View, make_console
from dlsweep.drive.views import make_view
from dlsweep.errors import DlsweepError
from dlsweep.folders.attempt import Attempt
from dlsweep.folders.removal import Removal
from dlsweep.folders.rundir import COMPLETED, FAILURES, UNFINISHED, Result, RunDir, RunInfo
from dlsweep.launchers.base import with_environment
from dlsweep.security import addresses, secrets
from dlsweep.security.printable import printable
from dlsweep.security.trust import check_trusted
from dlsweep.trial.signature import build

_COMMAND = ("-m", "dlsweep")


def run_once(
    config: DictConfig,
    sweeper: DictConfig,
    overrides: Sequence[str],
    path: Path,
    conf: Sequence[Path],
    env_set: Mapping[str, str],
) -> None:
    """Trains a single run, or resumes it if its folder exists.

    Args:
        config: The composed config, without the node ``hydra``.
        sweeper: The node ``hydra.sweeper``, with the objective and the trackers.
        overrides: The overrides of the command line.
        path: The run folder.
        conf: The trusted YAML folders; an existing folder's config may only call what they name.
        env_set: Environment variables of the run, from ``hydra.job.env_set``.

    Raises:
        DlsweepError: If the run cannot start, or fails.
    """
    folder = RunDir(path)
    if folder.info_file.exists():
        resume(path, conf)
        return
    secrets.check(config)
    metric: Any = sweeper.metric
    objective = list(metric) if OmegaConf.is_list(metric) else [metric] if metric else []
    info = RunInfo(
        id=uuid.uuid4().hex,
        name=path.name,
        study=sweeper.study_name or "default",
        number=None,
        objective=objective,
        directions=_directions(sweeper.direction, len(objective)),
        overrides=list(overrides),
        params={},
        tracking=recorded_tracking(config.get("tracking")),
        created=time.time(),
        limits=Limits.read(sweeper).record(),
    )
    try:
        addresses.remember({"tracking": info.tracking}, folder.path)
        view = make_view(info.objective, Counts(total=1, slots=1), sweeper.progress)
        _drive(folder, info, config, env_set, view)
    except DlsweepError:
        if not folder.info_file.exists():
            shutil.rmtree(path, ignore_errors=True)  # Hydra has created it, and no run has started
        raise


def resume(path: Path, conf: Sequence[Path]) -> None:
    """Resumes a run from its last checkpoint. A completed run is left as it is.

    Args:
        path: The run folder, which is not trusted.
        conf: The trusted YAML folders.

    Raises:
        StudyError: If the folder is not a run folder.
        ConfigError: If its config or its ``run.json`` names something that is not trusted.
    """
    folder = RunDir(path.resolve())
    folder.refuse_links()
    info = folder.info()
    result = folder.result()
    if result is not None and result.status in COMPLETED | {"pruned"}:
        removal = Removal.of(folder)
        make_console().print(f"{path} is {result.status} already; there is nothing to do.")
        if removal:
            make_console().print(printable(removal.sentence(folder)), soft_wrap=True)
        return
    config = OmegaConf.create(folder.config())
    check_trusted(config, path, conf)
    addresses.refuse_unknown({"tracking": info.tracking}, folder.path)
    if any(folder.checkpoints.glob("step-*")):  # its starting point may be gone by now
        for key in ("initial_weights", "resume_from"):
            if config.training.get(key):
                config.training[key] = None
    if removal := Removal.of(folder):
        make_console().print(printable(removal.sentence(folder)), soft_wrap=True)
        make_console().print("It is trained here again, from its start.")
        Removal.forget(folder)
    folder.clear()
    _drive(folder, info, config, {}, make_view(info.objective, Counts(total=1, slots=1)))


def _drive(
    folder: RunDir, info: RunInfo, config: DictConfig, env_set: Mapping[str, str], view: View
) -> None:
    try:
        result = _train(folder, info, config, env_set, view)
        _say(folder, result, view)
    except DlsweepError as error:
        view.over("error", error=str(error))
        raise
    view.over(result.status, missing=int(result.status in UNFINISHED))


def _train(
    folder: RunDir, info: RunInfo, config: DictConfig, env_set: Mapping[str, str], view: View
) -> Result:
    check_trackers(info.tracking)
    options: Any = OmegaConf.to_container(config.launcher, resolve=True)
    launcher = build("launcher", with_environment(options, env_set))
    argv = [
        *_COMMAND,
        f"hydra.run.dir={folder.path}",
    ]  # no overrides: a run folder has them
    limits = Limits.read(info.limits)
    with Driver(launcher, folder.path, view, bool(info.tracking), limits, most=1) as driver:
        is_adopted = driver.adopt(folder)
        if not is_adopted:
            preflight(driver, [config], folder.path / "check")
        if driver.stopping:
            raise DlsweepError("Stopped before the run has started.")
        if not folder.info_file.exists():
            folder.create(info, config)
        with view:
            view.begin(folder.path, info.study, info.directions)
            attempt = Attempt.current(folder).number + (not is_adopted)
            view.started(folder, info.overrides, folder.records_file.exists(), attempt)
            if not is_adopted:
                driver.launch(argv, folder)
            while not (ended := list(driver.turn())):
                pass
            view.ended(folder, ended[0][1])
    view.print_dashboards()
    return ended[0][1]


def _say(folder: RunDir, result: Result, view: View) -> None:
    console = view.console
    for name, value in sorted(result.metrics.items()):
        console.print(f"  {name:<16} {value:.6g}")
    shown = os.path.relpath(folder.path)
    if result.status in UNFINISHED:
        console.print(f"Resume it:  python -m dlsweep resume {shown}")
    elif result.status in FAILURES:
        log = f"\nIts log: {folder.log_file}" if folder.log_file.exists() else ""
        raise DlsweepError(f"The run {result.status}: {result.reason}{log}")
    else:
        console.print(f"The run's folder:  {shown}", soft_wrap=True)


def _directions(direction: Any, count: int) -> list[str]:
    texts = list(direction) if OmegaConf.is_list(direction) else [direction] * count
    return ["maximize" if text in ("max", "maximize") else "minimize" for text in texts]
