"""Registers exported models in every registry of models that a run is synced to."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from dlsweep.errors import StudyError, TrackerError
from dlsweep.folders.rundir import RunDir
from dlsweep.security import addresses
from dlsweep.trackers.base import Registry, State, Tracker, ViewLostError
from dlsweep.trackers.exports import ExportedVersion
from dlsweep.trackers.link import Link, make_tracker
from dlsweep.trackers.places import find_places
from dlsweep.trackers.views import synced_trackers

#: Seconds to wait for a mirror of the same folder.
_LOCK_PATIENCE = 15.0


class Registries:
    """The trackers of a run that have a registry of models.

    These are the trackers that the run was made with or added to. A tracker has to be synced
    first: the registered model refers to its run.

    Args:
        run: The run folder.

    Raises:
        StudyError: If there is no such tracker, or one is not synced.
        ConfigError: If only the folder names the address of a tracker.
        TrackerError: If a tracker does not work.
        StudyLockedError: If the run is being synced.
    """

    def __init__(self, run: RunDir) -> None:
        self._run = run
        (self._place,) = find_places(run.path.absolute())
        self._synced = synced_trackers(run)
        synced = {name: options for name, (options, _) in self._synced.items()}
        options = {**self._place.tracking(), **synced}
        addresses.refuse_unknown({"tracking": options}, self._place.path)
        chosen = {
            name: one
            for name, one in options.items()
            if isinstance(make_tracker(name, one), Registry)
        }
        self._check(sorted(options), sorted(chosen))
        self._place.connect(chosen, {}, None, verify=False)
        self._each(self._check_view)

    def register(self, export: ExportedVersion, name: str, alias: str | None) -> dict[str, str]:
        """Makes an exported model a version of a registered model, once.

        Args:
            export: The exported model.
            name: The name of the registered model; it is created if needed.
            alias: The alias that names this version from now on, if any.

        Returns:
            How each tracker names the version, by the tracker's name.

        Raises:
            TrackerError: If a tracker does not work.
            StudyLockedError: If the run is being synced.
        """
        found: dict[str, str] = {}

        def register(link: Link, registry: Registry, state: State) -> None:
            found[link.name] = registry.register(self._run, export, name, alias, state)

        self._each(register)
        return found

    def _check(self, known: list[str], chosen: list[str]) -> None:
        if not chosen:
            raise StudyError(
                f"{self._run.path} is tracked by {', '.join(known) or 'nothing'}. Expected mlflow "
                f"or wandb, which register models.\n{self._way_out(['mlflow'])}"
            )
        if missing := [name for name in chosen if name not in self._synced]:
            raise StudyError(
                f"{self._run.path} is not synced to {', '.join(missing)}.\n{self._way_out(missing)}"
            )

    def _check_view(self, link: Link, registry: Registry, state: State) -> None:
        try:
            registry.start(self._run, {}, state)
        except ViewLostError as lost:
            raise StudyError(f"{lost}\n{self._way_out([link.name])}") from None

    def _way_out(self, names: list[str]) -> str:
        return f"Sync it first:  python -m dlsweep sync {self._place.path} {' '.join(names)}"

    def _each(self, action: Callable[[Link, Registry, State], None]) -> None:
        """Calls each tracker with the state of its last sync, while no mirror can change that."""
        with ExitStack() as locks:
            self._place.lock(locks, _LOCK_PATIENCE)
            for link in self._place.links:
                self._call(link, action)

    def _call(self, link: Link, action: Callable[[Link, Registry, State], None]) -> None:
        _, state = self._synced[link.name]

        def act(tracker: Tracker) -> None:
            assert isinstance(tracker, Registry)
            action(link, tracker, state)

        link.retry_now()
        if link.call(act):
            link.close()
        if link.failure:
            raise TrackerError(f"{link.name}: {link.failure}")
