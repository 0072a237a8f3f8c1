"""The verb ``best``: trains the best trials of a study over several seeds, and chooses one.

The best value of a sweep is the luckiest of many. So the best trials are trained again with seeds
that the sweep has not used, in a study of their own, a grid of ``best`` and ``seed``. They are
compared by validation; the test data is read once, at the end, for the chosen one.
"""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from rich.table import Table

from dlsweep.cli.best_group import GROUP
from dlsweep.data.base import as_data
from dlsweep.drive.progress import make_console
from dlsweep.errors import ConfigError, StudyError
from dlsweep.folders.removal import again
from dlsweep.folders.rundir import RunDir, write_atomically
from dlsweep.folders.studydir import StudyDir
from dlsweep.results.candidates import LEVEL, Candidate, difference, ranked, verdict
from dlsweep.results.loading import open_trained
from dlsweep.results.quality import measure_for, predict, quality
from dlsweep.results.tables import Finished, point_of
from dlsweep.run.run import Run
from dlsweep.security.trust import check_trusted
from dlsweep.sweep.app import quoted
from dlsweep.trainers.epoch_trainer import EpochTrainer
from dlsweep.trial.signature import is_trainer, locate

#: The overrides of a trial that its driver reads, too.
_OF_THE_DRIVER = ("tracking", "launcher")
#: Trains an ordinary sweep from a command line.
Sweep = Callable[[Sequence[str]], None]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of ``best``."""
    parser.add_argument("folder", type=Path, help="the study's folder, as outputs/mnist")
    parser.add_argument("--top", type=int, default=3, help="how many trials; default: 3")
    parser.add_argument("--seeds", type=int, default=5, help="how many seeds for each; default: 5")
    parser.add_argument("overrides", nargs="*", help="overrides of all, as training.epochs=50")


def run(arguments: argparse.Namespace, sweep: Sweep, conf: Sequence[Path]) -> None:
    """Trains the candidates, prints the comparison, and marks the trial to deploy.

    Args:
        arguments: The verb's.
        sweep: Trains the study.
        conf: The trusted YAML folders.

    Raises:
        DlsweepError: If the study has nothing to compare, or a trial is missing.
    """
    for name in ("top", "seeds"):
        if (given := getattr(arguments, name)) < 1:
            raise ConfigError(f"--{name}: Received {given}. Expected 1 or more.")
    study = Finished(StudyDir(arguments.folder))
    runs = _candidates(study, arguments.top)
    config = Run(runs[0]).config
    check_trusted(config, runs[0].path, conf)
    seeds = arguments.seeds
    name = f"{study.folder.path.name}-best-{len(runs)}x{seeds}"
    sweep(
        [
            f"+{GROUP}={','.join(quoted(_short(run.path)) for run in runs)}",
            f"seed={','.join(str(config.seed + number) for number in range(1, seeds + 1))}",
            f"hydra.sweeper.study_name={quoted(name)}",
            f"hydra.sweeper.metric={quoted(study.objective[0])}",
            f"hydra.sweeper.direction={study.record['directions'][0]}",
            f"outputs={quoted(_short(study.folder.path.parent))}",
            "hydra.sweeper.warm_start=[]",  # no sampler asks for these points
            "hydra.sweeper.keep=best",  # the one to deploy need not have the best value
            *(one for one in again(runs[0].info()) if one.startswith(_OF_THE_DRIVER)),
            *(["++training.evaluate_test=false"] if _has_test_option(config) else []),
            *(_forced(one, config) for one in arguments.overrides),
            "-m",
        ]
    )
    _conclude(StudyDir(study.folder.path.parent / name), len(runs) * seeds)


def _candidates(study: Finished, top: int) -> list[RunDir]:
    """Returns the runs of the best trials, each point once."""
    folder = study.folder.path
    if study.record["command"][1:] != ["-m", "dlsweep"]:
        raise StudyError(
            f"{folder} is the study of another app: {shlex.join(study.record['command'])}\n"
            "Expected one of  python -m dlsweep. Sweep the app over seeds yourself."
        )
    if study.unfinished:
        raise StudyError(
            f"{folder} is not finished: {study.unfinished} of its trials are open.\n"
            "Type the sweep's command again to finish it."
        )
    if len(study.objective) > 1:
        raise StudyError(
            f"{folder} has the objectives {', '.join(study.objective)}. Expected one, by which "
            "trials can be ranked."
        )
    points: dict[str, RunDir] = {}
    for trial in study.best():
        point = json.dumps({**point_of(trial), "seed": None}, sort_keys=True)
        points.setdefault(point, study.folder.trial(trial.number))
    if not points:
        raise StudyError(f"{folder} has no completed trial, so there is nothing to train again.")
    return list(points.values())[:top]


def _short(path: Path) -> str:
    """Returns a path relative to the current folder, if it is inside."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _forced(override: str, config: DictConfig) -> str:
    """Lets an override set a key that the trials have, and the config without them may lack."""
    key = override.partition("=")[0]
    is_known = "/" not in key and OmegaConf.select(config, key) is not None
    return f"++{override}" if is_known and "." in key else override


def _has_test_option(config: DictConfig) -> bool:
    """Whether a run's trainer can leave the test data alone."""
    target = locate("training", config.training["_target_"])
    return is_trainer(target) and issubclass(target, EpochTrainer)


def _conclude(folder: StudyDir, expected: int) -> None:
    study = Finished(folder)
    direction = study.record["directions"][0]
    candidates = ranked(_values(study), direction)
    if (count := sum(len(one.values) for one in candidates)) < expected:
        raise StudyError(
            f"{count} of {expected} trials have completed.\nThe same command resumes the others; "
            f"see why with  python -m dlsweep report {folder.path}"
        )
    _print(study, candidates)
    first, *others = candidates
    pick = max if direction == "maximize" else min
    number = first.trials[pick(first.values, key=first.values.__getitem__)]
    chosen = {"number": number, "candidate": first.name, "mean": first.mean, "direction": direction}
    if others:
        second = others[0].name
        found = difference(first, others[0], direction)
        names = Path(first.name).name, Path(second).name
        make_console().print(verdict(*names, found), soft_wrap=True)
        chosen["difference"] = {**vars(found), "second": second}
    tested = _test(folder.trial(number).path)
    write_atomically(folder.deploy, json.dumps({**chosen, "test": tested}, indent=1))
    _print_choice(folder, number, tested)


def _values(study: Finished) -> list[Candidate]:
    """Returns the candidates of a study over ``best`` and ``seed``."""
    parser = OverridesParser.create()
    values: dict[str, dict[int, float]] = {}
    trials: dict[str, dict[int, int]] = {}
    for trial in study.best():
        given = study.folder.trial(trial.number).info().overrides
        overrides = {one.key_or_group: one.value() for one in parser.parse_overrides(given)}
        name, seed = str(overrides[GROUP]), int(str(overrides["seed"]))
        values.setdefault(name, {})[seed] = trial.values[0]
        trials.setdefault(name, {})[seed] = trial.number
    return [Candidate(name, values[name], trials[name]) for name in values]


def _print(study: Finished, candidates: Sequence[Candidate]) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for title in ("candidate", f"mean {study.objective[0]}", f"{LEVEL:.0%} interval", "seeds"):
        table.add_column(title, justify="left" if title == "candidate" else "right")
    for one in candidates:
        interval = one.interval()
        shown = f"{interval[0]:.4g} to {interval[1]:.4g}" if interval else "-"
        table.add_row(Path(one.name).name, f"{one.mean:.4g}", shown, str(len(one.values)))
    make_console().print(table)


def _test(run: Path) -> dict[str, Any] | None:
    """Measures a trained model on the test data; None if there is none in memory."""
    if not _has_test_option(Run(RunDir(run)).config):
        return None
    trainer, opened = open_trained(run)
    assert isinstance(trainer, EpochTrainer)
    data = as_data(trainer.build_data(opened))
    if data is None or data.test is None:
        return None
    scores = predict(trainer, trainer.load_model(opened), data.normalise(data.test.inputs))
    measure = measure_for(trainer.is_classifier, scores, data.test.targets)
    if measure is None:
        return None
    return {"examples": len(scores), measure: quality(measure, scores, data.test.targets)}


def _print_choice(folder: StudyDir, number: int, tested: dict[str, Any] | None) -> None:
    console = make_console()
    console.print(f"To deploy:  {folder.trial(number).path}", soft_wrap=True)
    if tested:
        examples = tested["examples"]
        ((measure, value),) = ((key, one) for key, one in tested.items() if key != "examples")
        console.print(f"On {examples} test examples, read once:  {measure} {value:.4g}")
    console.print(f"  python -m dlsweep export {shlex.quote(_short(folder.path))}", soft_wrap=True)
