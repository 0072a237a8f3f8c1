"""The Hydra Sweeper ``hydra/sweeper=dlsweep``.

Hydra imports this module at the start of every app in the environment, so it imports nothing heavy.
The sweep itself is imported when one starts.
"""

import sys
from dataclasses import dataclass, field
from inspect import signature
from typing import Any, ClassVar

from hydra.core.config_store import ConfigStore
from hydra.experimental.callback import Callback
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import MISSING, DictConfig, read_write

_TARGET = "hydra_plugins.dlsweep_sweeper.DlsweepSweeper"


@dataclass
class DlsweepSweeperConf:
    """The keys of ``hydra.sweeper``; Hydra's own Optuna sweeper has the first block, too."""

    defaults: list[Any] = field(
        default_factory=lambda: [
            {"sampler": "tpe"},
            {"pruner": "none"},
            {"/hydra/dlsweep@_global_": "callback"},
            "_self_",
        ]
    )
    _target_: str = _TARGET
    _recursive_: bool = False

    study_name: str | None = "default"  # also the name of its folder; by default the experiment's
    storage: str | None = None  # an Optuna storage URL; default: study.db in the study's folder
    direction: Any = "minimize"  # or maximize; a list for several objectives
    n_trials: int | None = None  # default: every point of a finite space
    n_jobs: int | None = None  # trials at a time; default: as many as the launcher has slots
    sampler: Any = MISSING  # a group: what suggests the next point
    params: dict[str, Any] = field(default_factory=dict)  # the space: key -> sweep override
    max_failure_rate: float = 0.5  # share of trials that may fail before the sweep stops

    metric: Any = None  # the objective; default: the number that the app returns
    pruner: Any = MISSING  # a group: what stops or pauses a trial early
    seed: int | None = None  # the sampler's seed
    timeout: float | None = None  # seconds after which the sweep stops
    trial_timeout: float | None = None  # seconds that one attempt of a trial may take
    step_timeout: float | None = None  # seconds without a new record: the trial hangs
    grace: float = 30.0  # seconds for a trial to save and end before it is killed
    failures: dict[str, Any] = field(default_factory=lambda: _failures())  # policies by status
    predict_memory: bool = True  # do not launch points that are almost sure not to fit
    keep: Any = None  # of ended trials' checkpoints: best (default), a number of trials, or all
    enqueue: list[Any] = field(default_factory=list)  # points to try first
    warm_start: Any = field(default_factory=list)  # folders of earlier studies for the sampler
    plan: Any = False  # true, or json: show the space and the first trials, and run nothing
    progress: str = "auto"  # json: print each event as a line of JSON
    launcher: Any = None  # where trials run; set by the group launcher
    tracking: Any = None  # the trackers; set by the group tracking

    search_space: Any = None  # these three are Hydra's Optuna sweeper's: refused with what to write
    custom_search_space: Any = None
    optuna_config: Any = None


def _failures() -> dict[str, Any]:
    """The default failure policies; see :mod:`dlsweep.sweep.failures`."""
    again = {"pause": 0.0, "counts": False, "infeasible": False}
    never = {"retries": 0, "pause": 0.0, "counts": True}
    return {
        "preempted": {"retries": None, **again},
        "node_lost": {"retries": 3, **again},
        "killed": {"retries": 1, "pause": 0.0, "counts": True, "infeasible": False},
        "timed_out": {**never, "infeasible": False},
        "crashed": {**never, "infeasible": False},
        "out_of_memory": {**never, "infeasible": True},
        "diverged": {**never, "infeasible": True},
    }


class DlsweepSweeper(Sweeper):
    """Runs a multirun with :mod:`dlsweep.sweep.multirun`."""

    #: The class that the app's YAML names, while Hydra makes this one instead; see TakeOver.
    replaced: ClassVar[str | None] = None

    def __init__(self, **options: Any) -> None:
        self.options = options

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Stores Hydra's arguments for :meth:`sweep`, with the config as it was composed."""
        if self.replaced:
            _set_target(config, self.replaced)
        self.hydra_context = hydra_context
        self.task_function = task_function
        self.config = config

    def sweep(self, arguments: list[str]) -> Any:
        """Runs the sweep that the command line asks for."""
        from dlsweep.errors import DlsweepError
        from dlsweep.security.secrets import scrub
        from dlsweep.sweep.app import App
        from dlsweep.sweep.multirun import multirun

        app = App.of(self.task_function, self.hydra_context.config_loader, self.config)
        try:
            return multirun(app, self.options, arguments)
        except DlsweepError as error:
            if app.is_own:
                raise
            print(scrub(str(error)), file=sys.stderr)  # Hydra would add a traceback
            raise SystemExit(1) from None


class TakeOver(Callback):
    """Keeps ``hydra/sweeper=dlsweep`` in force in an app whose YAML names the class of another.

    Such a line, ``hydra.sweeper._target_``, is merged over the sweeper that the command line asks
    for, and Hydra would give dlsweep's keys to that class.
    """

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ARG002
        """Names dlsweep's class, and prints that, if ``_target_`` is another one."""
        written = config.hydra.sweeper.get("_target_")
        if written != _TARGET:
            DlsweepSweeper.replaced = written
            _set_target(config, _TARGET)
            print(
                f"hydra.sweeper._target_: {written} is ignored, as hydra/sweeper=dlsweep is asked "
                "for. Remove that line from your YAML to have this sentence no more.",
                file=sys.stderr,
            )


def _set_target(config: DictConfig, target: str) -> None:
    with read_write(config.hydra.sweeper):
        config.hydra.sweeper["_target_"] = target


def _register() -> None:
    store = ConfigStore.instance()
    own = {"dlsweep_sweeper": {"_target_": f"hydra_plugins.dlsweep_sweeper.{TakeOver.__name__}"}}
    callback = {"hydra": {"callbacks": own}}
    for name, node in {"callback": callback, "none": {}}.items():  # dlsweep's own app needs none
        store.store(name, node, group="hydra/dlsweep", provider="dlsweep")
    provider = "dlsweep"
    # Of OptunaHub: package, and either a commit (ref) or a local copy (registry_root).
    hub = {"package": None, "ref": None, "registry_root": None, "name": None}
    store.store("dlsweep", DlsweepSweeperConf, group="hydra/sweeper", provider=provider)
    samplers: dict[str, dict[str, Any]] = {
        "tpe": {"_target_": "optuna.samplers.TPESampler", "n_startup_trials": 10},
        "gp": {"_target_": "optuna.samplers.GPSampler", "n_startup_trials": 10},
        "cmaes": {"_target_": "optuna.samplers.CmaEsSampler", "n_startup_trials": 1},
        "qmc": {"_target_": "optuna.samplers.QMCSampler", "qmc_type": "sobol", "scramble": True},
        "nsgaii": {"_target_": "optuna.samplers.NSGAIISampler", "population_size": 50},
        "nsgaiii": {"_target_": "optuna.samplers.NSGAIIISampler", "population_size": 50},
        "grid": {"_target_": "optuna.samplers.GridSampler"},
        "brute_force": {"_target_": "optuna.samplers.BruteForceSampler"},
        "random": {"_target_": "optuna.samplers.RandomSampler"},
        "hub": {"_target_": "dlsweep.sweep.hub.sampler", **hub},
    }
    rungs = {
        "min_resource": 1,
        "max_resource": "auto",
        "reduction_factor": 3,
        "brackets": 1,
        "start_over": False,
    }
    pruners: dict[str, dict[str, Any]] = {
        "none": {},
        "median": {
            "_target_": "optuna.pruners.MedianPruner",
            "n_startup_trials": 5,
            "n_warmup_steps": 0,
            "interval_steps": 1,
        },
        "hyperband": {
            "_target_": "optuna.pruners.HyperbandPruner",
            "min_resource": 1,
            "max_resource": "auto",
            "reduction_factor": 3,
        },
        "asha": {
            "_target_": "optuna.pruners.SuccessiveHalvingPruner",
            "min_resource": 1,
            "reduction_factor": 3,
            "min_early_stopping_rate": 0,
        },
        "promote": {"_target_": "dlsweep.sweep.rungs.PromotePruner", **rungs},
        "pasha": {"_target_": "dlsweep.sweep.rungs.PashaPruner", **rungs},
        "pbt": {
            "_target_": "dlsweep.sweep.pbt.PopulationBasedTraining",
            "perturbation_interval": 1,
            "max_resource": "auto",
            "quantile_fraction": 0.25,
            "resample_probability": 0.25,
            "perturbation_factors": [1.2, 0.8],
            "perturb": None,
        },
        "patience": {
            "_target_": "optuna.pruners.PatientPruner",
            "wrapped_pruner": None,
            "patience": 3,
            "min_delta": 0.0,
        },
        "threshold": {
            "_target_": "optuna.pruners.ThresholdPruner",
            "lower": None,
            "upper": None,
            "n_warmup_steps": 0,
        },
        "hub": {"_target_": "dlsweep.sweep.hub.pruner", **hub},
    }
    # Hydra's Optuna sweeper has samplers of the same names; Hydra 1.4 wants to be told.
    over = {"replace": True} if "replace" in signature(store.store).parameters else {}
    for name, node in samplers.items():
        node = {"_target_": node["_target_"], "seed": None, **node}
        store.store(name, node, group="hydra/sweeper/sampler", provider=provider, **over)
    for name, node in pruners.items():
        store.store(name, node, group="hydra/sweeper/pruner", provider=provider)


_register()
