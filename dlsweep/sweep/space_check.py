"""Checks the configs at the ends of a search space, before a sweep starts."""

from __future__ import annotations

from dlsweep.drive.driver import Driver
from dlsweep.drive.preflight import preflight
from dlsweep.folders.studydir import StudyDir
from dlsweep.sweep.app import App
from dlsweep.sweep.study import Study


def check_space(app: App, folder: StudyDir, study: Study, driver: Driver) -> None:
    """Checks a config at each end of each range, where trials run.

    Under population based training, it also finds the keys that change the shapes of weights.

    Args:
        app: The app that is swept. That of a user is composed, and not checked further.
        folder: The study folder.
        study: The study.
        driver: The driver; its launcher has started.

    Raises:
        ConfigError: If there are problems; lists every distinct one.
    """
    space, pauses = study.space, study.pauses
    configs = [space.composer.config(space.overrides(point)) for point in space.probes()]
    changes: dict[str, str] = {}
    if app.is_own:
        variants = {
            key: [
                [space.composer.config(space.overrides(point)) for point in points]
                for points in pauses.variants(key)
            ]
            for key in pauses.keys
        }
        changes = preflight(driver, configs, folder.path / "check", variants)
    pauses.preflight(changes)
