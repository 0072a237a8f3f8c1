"""The sweep loop: ask Optuna, launch into a free slot, watch, tell Optuna. It has no batches.

A sweep can stop at any moment. The same command resumes it: finished trials stay, unfinished ones
resume from their last checkpoint under their own number, and the total is exactly ``n_trials``.
"""

from __future__ import annotations

import dataclasses
import functools
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from dlsweep.drive.driver import Driver
from dlsweep.errors import ConfigError, DiskFullError, StudyError
from dlsweep.folders.attempt import Attempt
from dlsweep.folders.rundir import DISK_FULL, FAILURES, Result, RunDir, RunInfo
from dlsweep.folders.studydir import StudyDir
from dlsweep.results import tables
from dlsweep.results.front import in_words
from dlsweep.results.report import page
from dlsweep.sweep.app import App
from dlsweep.sweep.failures import Policy, checked, explained, given_up
from dlsweep.sweep.forecast import Forecast
from dlsweep.sweep.inbox import Inbox
from dlsweep.sweep.keeper import Keeper, policy
from dlsweep.sweep.memory import MemoryForecast
from dlsweep.sweep.orphans import unrecorded_result, wait_for_orphan
from dlsweep.sweep.outages import Outages
from dlsweep.sweep.pausing import Trial
from dlsweep.sweep.record import StudyRecord
from dlsweep.sweep.settings import SweepSettings
from dlsweep.sweep.sharing import Sharing
from dlsweep.sweep.space import Scalar
from dlsweep.sweep.space_check import check_space
from dlsweep.sweep.study import Study

#: The failure rate is computed over at least this many trials, so one early failure ends nothing.
_FEWEST = 4
#: How long to wait, in seconds, while every remaining trial waits for its retry.
_PAUSE = 0.05
#: How long trials may be launched, in seconds, before those that run are answered.
_LAUNCHING = 0.25


class Sweep:
    """Runs a study's trials until it is complete; the work of one driver."""

    def __init__(
        self,
        app: App,
        folder: StudyDir,
        study: Study,
        settings: SweepSettings,
        driver: Driver,
        driver_id: str,
    ) -> None:
        self.app = app
        self.composer = study.space.composer
        self.folder = folder
        self.study = study
        self.settings = settings
        self.driver = driver
        self.view = driver.view
        self._outages = Outages(study, driver.view)
        self.view.objective = study.settings.objective
        self.record = StudyRecord(app, folder, study, settings)
        self.record.slots = driver.view.counts.slots
        self.record.code = driver.launcher.code
        self._inbox = Inbox(folder, driver, driver_id, study, settings.exhaustive, self._extend)
        self.record.keep = policy(settings.keep, self.record.read(), folder, self.view)
        self._forecast = Forecast(folder, study, self.record.keep, settings.n_trials, self.view)
        self.keeper = Keeper(folder, study, self.record.keep, self.view)
        nodes = driver.launcher.memory if settings.predict_memory else tuple
        self._memory = MemoryForecast(study, nodes, self.view)
        self._sharing = Sharing(driver, self._memory, folder)
        self._open = study.open_trials()
        self._points = self._untried_points() if settings.grid else iter(())
        self._trials: dict[Path, Trial] = {}
        self._later: list[tuple[float, Trial]] = []
        self._deadline = time.monotonic() + (settings.timeout or float("inf"))
        self._failed = 0

    def run(self) -> None:
        """Runs trials until the study is complete, the timeout passes, or the user stops it."""
        if isinstance(extended := self.record.read().get("extended"), int):
            self._raise_total(extended)
        self._inbox.extend()
        self.view.counts.total = self.record.total
        over = not self._open and not self.study.pauses.paused and not self._wants_more()
        if not over and self.record.is_of_other_code:
            self.view.say("The code has changed since this study began; its next trials use it.")
        self.record.write(**(self.record.earlier_end() if over else {}))
        self._count_earlier()
        # The mirror imports its trackers while the warm parent imports the framework. It also syncs
        # what an earlier driver was killed before syncing.
        self.driver.start_mirror()
        if not over:
            threading.Thread(target=tables.import_pandas, daemon=True).start()
            self._adopt()
            if not self._trials:  # otherwise their driver has checked, and they hold the slots
                check_space(self.app, self.folder, self.study, self.driver)
            self.study.begin()
            with self.view:
                self._loop()
        self._conclude()

    def print_result(self) -> None:
        """Prints the leaderboard, the dashboards, and how many trials are missing.

        Raises:
            StudyError: If the sweep stopped because too many trials failed.
        """
        tables.show(self.finished, self.view.console)
        self.view.print_dashboards()
        missing = (self.record.total or 0) - self.study.finished
        if self.study.is_exhausted:
            missing = 0
            self.view.say(f"The space is exhausted: all {self.study.finished} points are tried.")
        self._outages.print_last()
        if missing > 0:
            self.view.say(f"{missing} trials are missing; the same command resumes the sweep.")
        ended = "exhausted" if self.study.is_exhausted else "finished"
        self.view.over(self.driver.stopping or ended, max(0, missing))
        if self.driver.stopping == "failures":
            raise StudyError("Too many trials failed; see the reasons above and in their logs.")
        if missing <= 0 and not (self.study.best or self.view.counts.completed):
            raise StudyError("No trial has completed; see the reasons in their logs.")

    def _loop(self) -> None:
        while True:
            self._inbox.look()
            more = self._launch_some()
            others = self.study.pauses.paused or self._wants_more()
            self.study.pauses.others_wait = bool(others) and not self._has_room()
            if not (self.driver.running or more):
                if self.driver.stopping:
                    return
                if not self._waits():
                    self._end_paused()
                    return
                time.sleep(_PAUSE)
            for folder, result in self.driver.turn(at_once=more):
                self._end(self._trials.pop(folder.path), folder, result)
            self.keeper.turn()
            if time.monotonic() > self._deadline and not self.driver.stopping:
                self.view.say("The timeout is over: the running trials save and end.")
                self.driver.stop("timeout")

    def _waits(self) -> bool:
        """Whether there is more to do, though no trial runs."""
        waiting = self._open or self.study.pauses.paused or self._wants_more()
        return bool(self._later or self.study.outage or (waiting and not self._has_room()))

    def _launch_some(self) -> bool:
        """Fills the free slots; returns whether there are more, because that would take long."""
        until = time.monotonic() + _LAUNCHING
        while self._has_room() and (trial := self._next()):
            self._launch(trial)
            if time.monotonic() > until:
                return True
        return False

    def _has_room(self) -> bool:
        limit = self.settings.n_jobs
        return (
            not self._inbox.paused
            and self._outages.is_stored()
            and self._sharing.has_room()
            and (limit is None or self.driver.running < limit)
        )

    def _next(self) -> Trial | None:
        trial = self._choose()
        if trial and not (self._outages.is_stored() and self._sharing.suits(trial)):  # it waits
            self._open.insert(0, trial)
            return None
        return trial

    def _choose(self) -> Trial | None:
        due = [entry for entry in self._later if entry[0] <= time.monotonic()]
        if due:
            self._later.remove(due[0])
            return due[0][1]
        if self._open:
            return self._open.pop(0)
        others_begin = self._wants_more()
        if paused := self.study.pauses.next(others_begin):
            return paused
        if not others_begin:
            is_last = not (self.driver.running or self._later or self.study.best)
            return self.study.pauses.last() if is_last else None
        if self.settings.grid:
            point = next(self._points, None)
            return self.study.ask(point) if point is not None else None
        return self.study.ask()

    def _wants_more(self) -> bool:
        total = self.record.total
        begun = (
            self.study.finished
            + len(self._trials)
            + len(self._later)
            + len(self.study.pauses.paused)
        )
        return (total is None or begun < total) and not self.study.is_exhausted

    def _extend(self, n_trials: int) -> None:
        """Raises the number of trials for good: a later driver of this study has it, too."""
        if self._raise_total(n_trials):
            self.record.write(extended=n_trials)
            self.view.counts.total = self.record.total
            self.view.say(f"The study has {self.record.total} trials from now on.")

    def _raise_total(self, n_trials: int) -> bool:
        total = self.study.space.count(n_trials) if self.settings.exhaustive else n_trials
        if self.record.total is None or total <= self.record.total:
            return False
        self.record.total = total
        return True

    def _launch(self, trial: Trial) -> None:
        folder = self.folder.trial(trial.number)
        folder.refuse_links()
        overrides = [*self.composer.fixed, *trial.overrides]
        again = folder.info_file.exists()
        if again:
            wait_for_orphan(folder, self.driver.limits.grace, self.view.say)
        self._create(folder, trial, overrides)
        judge = functools.partial(self.study.judge, trial)
        result = unrecorded_result(folder, judge) if again else None
        if result and result.status == "rejected":  # its driver was killed before it was stored
            self._reject(trial, folder, result)
            return
        attempt = Attempt.current(folder).number
        is_new = not (attempt or folder.records_file.exists())
        if is_new and (why := self._memory.objection(trial)):
            self._reject(trial, folder, Result("rejected", why, ended=time.time()))
            return
        self.view.started(folder, trial.overrides, again, attempt + (result is None))
        if result:
            self._end(trial, folder, result)
            return
        self.study.pauses.prepare(trial, folder)
        folder.clear()
        self._trials[folder.path] = trial
        if self._sharing.reserve(trial):
            self.record.slots = self.view.counts.slots
            self.record.write()
        self.driver.launch(self.app.argv(overrides, folder.path), folder, judge)

    def _reject(self, trial: Trial, folder: RunDir, result: Result) -> None:
        """Records a trial that is not launched, because it would not fit into memory."""
        folder.write_result(result)
        self.study.tell(trial, result)
        self._memory.note(trial.number, trial.params, result)
        self.view.rejected(folder, trial.overrides, result.reason)
        self.driver.start_mirror()

    def _adopt(self) -> None:
        """Watches the trials that an earlier driver has left running on a cluster."""
        for trial in list(self._open):
            folder = self.folder.trial(trial.number)
            folder.refuse_links()
            judge = functools.partial(self.study.judge, trial)
            if folder.info_file.exists() and self.driver.adopt(folder, judge):
                self._open.remove(trial)
                self._trials[folder.path] = trial
                attempt = Attempt.current(folder).number
                self.view.started(folder, trial.overrides, again=True, attempt=attempt)

    def _end(self, trial: Trial, folder: RunDir, result: Result) -> None:
        """Records and prints how a trial ended, unless it will be retried or resumed."""
        result = checked(folder, result, self.study.settings.objective, self.settings.grid)
        if result.reason == DISK_FULL:
            raise DiskFullError(self.folder.path)
        policy = self._sharing.again(folder, result) or self.settings.failures.get(result.status)
        if policy:
            result = explained(folder, result)
            attempts = folder.note_attempt(result)
            if policy.allows(attempts):
                result = self._postpone(trial, folder, result, policy)
            else:
                result = given_up(folder, result, attempts)
        if result.status == "paused":
            self._pause(trial, folder, result)
        infeasible = bool(policy and policy.infeasible)
        self.study.tell(trial, result, infeasible, folder.user_attrs())
        self._memory.note(trial.number, trial.params, result)
        self.view.ended(folder, result)
        self._show_best()
        self._forecast.ended()
        self._count_failure(result)

    def _pause(self, trial: Trial, folder: RunDir, result: Result) -> None:
        """Makes a trial wait for its promotion.

        Raises:
            ConfigError: If it has saved no checkpoint to go on from, and may not start over.
        """
        if not any(folder.checkpoints.glob("step-*")) and not self.study.pauses.may_start_over:
            raise ConfigError(
                f"Trial {folder.path.name} has paused and saved no checkpoint, so it cannot go on "
                "from there later.\nSave one with run.checkpoints.save(…)"
                f"{self.study.pauses.way_out}"
            )
        folder.note_attempt(result)
        self.study.pauses.pause(trial)

    def _end_paused(self) -> None:
        """Records the trials that were never promoted as pruned, when the study is complete."""
        for trial in self.study.pauses.paused:
            folder = self.folder.trial(trial.number)
            result = folder.result() or Result("paused")
            result = dataclasses.replace(result, status="pruned")
            folder.write_result(result)
            self.study.tell(trial, result, user_attrs=folder.user_attrs())
            self.view.counts.pruned += 1

    def _postpone(self, trial: Trial, folder: RunDir, result: Result, policy: Policy) -> Result:
        """Schedules a retry. Until then the trial counts as interrupted, for any driver."""
        self._later.append((time.monotonic() + policy.pause, trial))
        reason = f"{result.status}: {result.reason}".rstrip(": ")
        again = f" in {policy.pause:g} s" if policy.pause else ""
        said = f"  {folder.path.name} {reason}; it will be retried{again}."
        self.view.say(said, "warning")
        postponed = dataclasses.replace(result, status="interrupted", reason=reason)
        folder.write_result(postponed)
        return postponed

    def _create(self, folder: RunDir, trial: Trial, overrides: list[str]) -> None:
        """Writes ``run.json`` of a trial. A resumed trial keeps only the id that its folder has."""
        earlier = folder.info() if folder.info_file.exists() else None
        config = self.composer.config(trial.overrides)
        info = RunInfo(
            id=earlier.id if earlier else uuid.uuid4().hex,
            name=folder.path.name,
            study=self.study.settings.name,
            number=trial.number,
            objective=self.study.settings.objective,
            directions=list(self.study.settings.directions),
            overrides=overrides,
            params=trial.params,
            tracking=self.settings.tracking,
            created=earlier.created if earlier else time.time(),
            limits=self.driver.limits.record(),
            keep=str(self.record.keep),
        )
        folder.create(info, config)

    def _count_failure(self, result: Result) -> None:
        self._failed += result.status in FAILURES and self.settings.failures[result.status].counts
        share = self._failed / max(_FEWEST, self.study.finished)
        if share > self.settings.max_failure_rate and not self.driver.stopping:
            self.view.say(
                f"{self._failed} of {self.study.finished} trials failed, more than "
                "hydra.sweeper.max_failure_rate="
                f"{self.settings.max_failure_rate} allows: stopping.",
                "warning",
            )
            self.driver.stop("failures")

    def _untried_points(self) -> Iterator[dict[str, Scalar]]:
        points = [tables.point_of(trial) for trial in self.study.finished_trials()]
        points += [trial.params for trial in self.study.open_trials()]
        tried = {frozenset(point.items()) for point in points}
        return (p for p in self.study.space.points() if frozenset(p.items()) not in tried)

    def _show_best(self) -> None:
        self.view.found_best(self.study.best, in_words(self.study.best))

    def _count_earlier(self) -> None:
        counts = self.view.counts
        for trial in self.study.finished_trials():
            counts.add(tables.state_of(trial))
        counts.begun_with = counts.done
        settings = self.study.settings
        self.view.begin(self.folder.path, settings.name, settings.directions)
        self._show_best()

    def _conclude(self) -> None:
        """Writes tables and the report while the mirror syncs the last trials."""
        is_new = not self.record.earlier_end()
        end = self.record.present_end() if is_new else {}
        if end:
            self.record.write(**end)
        self.driver.sync_now()
        self.finished = tables.Finished(self.folder, self.study.as_optuna)
        if is_new:
            tables.write_tables(self.finished)
            page.write_page([self.finished], self.folder.report)
            if end:
                self.record.write(**end, report=self.folder.report.name)
        self.keeper.settle()
        self.driver.drain()
