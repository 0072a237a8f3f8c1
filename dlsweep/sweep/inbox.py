"""Does what other processes ask of a running sweep: see :mod:`dlsweep.folders.requests`."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable

from dlsweep.drive.driver import Driver
from dlsweep.errors import ConfigError
from dlsweep.folders.requests import Request, Requests
from dlsweep.folders.studydir import StudyDir
from dlsweep.sweep.study import Study

#: Seconds between two looks into the study folder.
_LOOK = 0.25


class Inbox:
    """The requests to one driver.

    A request is removed after what it asks for is stored. If the driver is killed in between, the
    next one does it again, which changes nothing.

    Args:
        folder: The study folder.
        driver: The driver.
        driver_id: Its id, which requests to stop name.
        study: The study that points are added to.
        exhaustive: Whether the sweep tries every point once, so that none can be added.
        extend: Raises the number of trials.
    """

    def __init__(
        self,
        folder: StudyDir,
        driver: Driver,
        driver_id: str,
        study: Study,
        exhaustive: bool,
        extend: Callable[[int], None],
    ) -> None:
        self._folder = folder
        self._driver = driver
        self._id = driver_id
        self._study = study
        self._exhaustive = exhaustive
        self._extend = extend
        self._requests = Requests(folder.requests)
        self._looked = float("-inf")
        self.paused = False

    def extend(self) -> None:
        """Raises the number of trials as asked; what else is asked can wait."""
        for request in self._requests.pending(self._driver.view.say):
            if request.kind == "extend":
                self._do(request)

    def look(self) -> None:
        """Does all that is asked, a few times a second however often it is called."""
        if time.monotonic() - self._looked < _LOOK:
            return
        self._looked = time.monotonic()
        self._note_pause()
        for request in self._requests.pending(self._driver.view.say):
            self._do(request)

    def _note_pause(self) -> None:
        was, self.paused = self.paused, self._folder.paused_file.exists()
        self._driver.view.is_paused = self.paused
        if self.paused and not was:
            again = f"python -m dlsweep resume {shlex.quote(str(self._folder.path))}"
            self._driver.view.say(f"The study is paused: no trial starts until  {again}")
        elif was and not self.paused:
            self._driver.view.say("The study goes on.")

    def _do(self, request: Request) -> None:
        about, view = request.about, self._driver.view
        if about.get("driver", self._id) != self._id:
            pass  # it was for an earlier driver
        elif request.kind == "stop" and not self._driver.stopping:
            view.say("Stopping, as asked: the running trials save and end.")
            self._driver.stop("stop")
        elif request.kind == "kill":
            self._driver.stop("stop")
            view.say("Killing the running trials, as asked.")
            self._driver.kill()
        elif request.kind == "kill_trial":
            self._driver.kill(self._folder.trial(about["number"]))
        elif request.kind == "extend":
            self._extend(about["n_trials"])
        elif request.kind == "enqueue":
            self._enqueue(request)
        request.path.unlink(missing_ok=True)

    def _enqueue(self, request: Request) -> None:
        point = request.about["params"]
        text = " ".join(f"{key}={value}" for key, value in point.items())
        if self._exhaustive:
            said = f"{text} is left out: this sweep tries every point once."
            self._driver.view.say(said, "warning")
            return
        try:
            self._study.enqueue(point, request.path.stem)
        except ConfigError as error:
            self._driver.view.say(f"{error} The point is left out.", "warning")
        else:
            self._driver.view.say(f"Enqueued: {text}")
