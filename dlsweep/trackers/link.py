"""A connection to a tracker that may fail: builds the tracker, and retries after a pause."""

from __future__ import annotations

import contextlib
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.utils import get_class
from omegaconf import OmegaConf

from dlsweep.errors import ConfigError, DlsweepError
from dlsweep.security.secrets import scrub
from dlsweep.security.trust import comes_with_a_run
from dlsweep.trackers.base import Tracker

#: Seconds until a failed tracker is retried: the first time, and at most.
_FIRST_WAIT, _LONGEST_WAIT = 1.0, 30.0

Options = dict[str, Any]
Announce = Callable[[dict[str, Any]], None]


class Link:
    """The connection to one tracker of one folder.

    Args:
        name: The tracker's name in the config.
        options: The tracker's arguments and ``_target_``.
        folder: The study folder or the run folder.
        announce: Called once: with ``{"tracker", "ready", "view"}`` when the tracker first works,
            or with ``{"tracker", "error"}`` if it fails before that. Later failures are printed
            to standard error. Without it nothing is printed.

    Attributes:
        failure: The error of the last call; None if it succeeded.
        synced: The number of records synced.
    """

    def __init__(
        self, name: str, options: Options, folder: Path, announce: Announce | None
    ) -> None:
        self.name = name
        self.options = options
        self.failure: str | None = None
        self.synced = 0
        self._folder = folder
        self._announce = announce
        self._announced = False
        self._tracker: Tracker | None = None
        self._said: set[str] = set()
        self.retry_now()

    def retry_now(self) -> None:
        """Ends the pause after a failure."""
        self._wait, self._retry_at = _FIRST_WAIT, 0.0

    def prepare(self) -> None:
        """Imports the tracker's packages. A failure here is printed when the next call fails."""
        with contextlib.suppress(DlsweepError, ImportError):
            make_tracker(self.name, self.options).preload()

    def call(self, action: Callable[[Tracker], None]) -> bool:
        """Calls the tracker; returns False if the call fails, or in the pause after a failure."""
        if time.monotonic() < self._retry_at:
            return False
        try:
            if self._tracker is None:
                self._tracker = make_tracker(self.name, self.options)
                self._tracker.check()
            action(self._tracker)
        except Exception as error:  # noqa: BLE001 - a tracker is anybody's code
            self._fail(self._cause(error))
            return False
        self._succeed(self._tracker)
        return True

    def close(self) -> None:
        """Closes the tracker, if it is open."""
        if self._tracker:
            self.call(lambda tracker: tracker.close())

    def _succeed(self, tracker: Tracker) -> None:
        self.failure = None
        self._wait = _FIRST_WAIT
        if self._announce and not self._announced:
            view = tracker.view.replace("{folder}", shlex.quote(str(self._folder)))
            self._announce({"tracker": self.name, "ready": True, "view": view})
            self._announced = True
        elif self._announce:
            self._announce({"tracker": self.name})  # a heartbeat

    def _cause(self, error: Exception) -> Exception:
        """Returns the error of the tracker's own check, which explains more, or else the error."""
        try:
            if self._tracker:
                self._tracker.check()
        except Exception as cause:  # noqa: BLE001 - as above
            return cause
        return error

    def _fail(self, error: Exception) -> None:
        known = isinstance(error, DlsweepError)
        self.failure = scrub(str(error) if known else f"{type(error).__name__}: {error}")
        self._tracker = None
        self._retry_at = time.monotonic() + self._wait
        self._wait = min(2 * self._wait, _LONGEST_WAIT)
        if self._announce and not self._announced:
            self._announce({"tracker": self.name, "error": self.failure})
            self._announced = True
        elif self._announce and self.failure not in self._said:
            print(f"{self.name} is behind and will be retried. {self.failure}", file=sys.stderr)
        self._said.add(self.failure)


def make_tracker(name: str, options: Options) -> Tracker:
    """Builds a tracker from its options.

    Options come from a run folder, so they may only build a Tracker, and nothing nested is called.

    Raises:
        ConfigError: If they do not build a tracker.
    """
    if not isinstance(options, dict):
        raise ConfigError(
            f"tracking.{name}: Received {options!r}. Expected a tracker's name, with its _target_ "
            "and arguments below.\nType  # @package tracking.<name>  as the first line of the YAML "
            "file in conf/tracking/."
        )
    arguments = OmegaConf.to_container(OmegaConf.create(options), resolve=True)
    assert isinstance(arguments, dict)
    target = str(arguments.pop("_target_", None))
    if comes_with_a_run(target):
        raise ConfigError(
            f"tracking.{name}: Received {target!r}, a module in a run's or a study's folder, which "
            f"may be anybody's, so it is not imported.\nExpected a Tracker of dlsweep or of yours. "
            "If it is yours, put its module outside of that folder."
        )
    try:
        kind = get_class(target)
        if not issubclass(kind, Tracker):
            raise TypeError(f"{target} is no dlsweep.trackers.Tracker")
        return kind(**{str(key): value for key, value in arguments.items()})
    except (ImportError, ValueError, TypeError) as error:
        raise ConfigError(
            f"tracking.{name} does not build a tracker: {error}.\n"
            f"Received: {options}. Expected: _target_ and the arguments of a Tracker."
        ) from error
