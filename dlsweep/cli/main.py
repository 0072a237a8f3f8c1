"""The command line: runs, sweeps (``-m``) and verbs.

Hydra's command line handles runs and sweeps. If the first word is a verb, it is parsed here.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import hydra
from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from dlsweep import __version__
from dlsweep.cli import help
from dlsweep.cli.search_path import VERSION_BASE, UserConf, conf_dir, conf_folders, own_root
from dlsweep.errors import DlsweepError
from dlsweep.folders.studydir import refuse_address
from dlsweep.launchers.snapshot import CODE_VARIABLE
from dlsweep.machine.imports import require_package
from dlsweep.run.channel import RUN_VARIABLE


def main() -> None:
    """Runs the command line. A user's mistake ends with a message, not with a traceback."""
    project = os.environ.get(CODE_VARIABLE) or os.getcwd()
    if sys.path[:1] != [project]:
        sys.path.insert(0, project)  # the user's modules, also for the console script
    verb = sys.argv[1] if len(sys.argv) > 1 else ""
    try:
        if RUN_VARIABLE in os.environ:  # a run's process: its command line is data
            raise SystemExit(_check() if sys.argv[1:] == ["check"] else _train())
        if verb in _VERBS:
            raise SystemExit(_VERBS[verb](sys.argv[2:]))
        if "--version" in sys.argv:  # Hydra would print its own
            print(f"dlsweep {__version__}")
            return
        if {"--help", "-h"} & set(sys.argv):
            print(help.text(conf_folders()))
            return
        sys.argv[1:] = overrides_first(sys.argv[1:])
        _refuse_addresses(sys.argv[1:])
        _run_hydra()
    except DlsweepError as error:
        _end(error)


def overrides_first(arguments: Sequence[str]) -> list[str]:
    """Moves overrides before flags, as Hydra 1.3 needs them."""

    def is_flag(argument: str) -> bool:
        return argument.startswith("-") or not ("=" in argument or argument[:1] in ("+", "~"))

    return sorted(arguments, key=is_flag)


def _refuse_addresses(arguments: Sequence[str]) -> None:
    """Refuses results at an address before Hydra would create a folder of that name."""
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key in ("outputs", "hydra.run.dir", "hydra.sweep.dir"):
            refuse_address(value.strip("'\""))


def _run_hydra() -> None:
    from dlsweep.cli import best_group

    Plugins.instance().register(UserConf)
    best_group.register()
    full = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # so that Hydra raises errors instead of printing them
    asked: list[tuple[DictConfig, HydraConf]] = []

    def single(config: DictConfig) -> None:
        asked.append((config, HydraConfig.get()))

    app = hydra.main(config_path=str(conf_dir()), config_name="config", **VERSION_BASE)(single)
    try:
        app()
    except (HydraException, OmegaConfBaseException) as error:
        if full == "1":
            raise
        from dlsweep.cli.explain import explain

        _end(f"{explain(error, sys.argv[1:])}{own_root()}")
    except ValueError as error:
        from dlsweep.cli.explain import null_group

        if full == "1" or not (message := null_group(error, sys.argv[1:], conf_folders())):
            raise
        _end(message)
    except OSError as error:
        if error.filename is None or full == "1":
            raise
        _end(
            f"{error.filename} cannot be written: {error.strerror}.\n"
            "Give another folder with  outputs=/some/folder"
        )
    for config, node in asked:  # outside of Hydra, which would print errors its own way
        _run_once(config, node)


def _run_once(config: DictConfig, node: HydraConf) -> None:
    from dlsweep.drive.single import run_once

    env_set = dict(node.job.env_set)
    os.environ.update(env_set)
    folder, overrides = Path(node.runtime.output_dir), list(node.overrides.task)
    run_once(config, node.sweeper, overrides, folder, conf_folders(), env_set)


def _train() -> int:
    from dlsweep.trial import task

    return task.main()


def _resume(arguments: Sequence[str]) -> int:
    parser = help.parser(
        "resume", "resume a run from its last checkpoint, or a study that is paused"
    )
    parser.add_argument(
        "folder", type=Path, help="the run folder, as outputs/mnist/runs/…, or the study's folder"
    )
    folder = parser.parse_args(arguments).folder
    if (folder / "study.json").exists():
        from dlsweep.cli.control import resume_study

        return resume_study(folder)
    from dlsweep.drive.single import resume

    resume(folder, conf_folders())
    return 0


def _stop(arguments: Sequence[str]) -> int:
    from dlsweep.cli import control

    words = "stop a sweep, a trial or a run: it saves and ends; wait until it has"
    return control.stop(help.parser("stop", words), arguments)


def _pause(arguments: Sequence[str]) -> int:
    from dlsweep.cli import control

    words = "start no more trials of a sweep until  python -m dlsweep resume <study>"
    return control.pause(help.parser("pause", words), arguments)


def _enqueue(arguments: Sequence[str]) -> int:
    from dlsweep.cli import control

    words = "add a point that a sweep tries next, also while it runs"
    return control.enqueue(help.parser("enqueue", words), arguments)


def _extend(arguments: Sequence[str]) -> int:
    from dlsweep.cli import control

    words = "raise the number of trials of a sweep, also while it runs"
    return control.extend(help.parser("extend", words), arguments)


def _status(arguments: Sequence[str]) -> int:
    from dlsweep.cli import status

    return status.status(help.parser("status", "print what sweeps do now"), arguments)


def _attach(arguments: Sequence[str]) -> int:
    from dlsweep.cli import status

    words = "show a running sweep until it ends; Ctrl-C leaves the sweep alone"
    return status.attach(help.parser("attach", words), arguments)


def _report(arguments: Sequence[str]) -> int:
    parser = help.parser(
        "report", "print the leaderboard of a study, or write its report as a page"
    )
    parser.add_argument(
        "folders", type=Path, nargs="+", metavar="folder", help="a study's folder, as outputs/mnist"
    )
    parser.add_argument(
        "--html", action="store_true", help="write one page with charts, of all these studies"
    )
    parser.add_argument(
        "--out",
        type=Path,
        help="the page's file; default: report.html in the study's folder, or, of several studies, "
        "in the current folder",
    )
    _add_json(parser)
    options = parser.parse_args(arguments)
    if options.out and not options.html:
        parser.error("--out needs --html")
    if options.json and options.html:
        parser.error("Received --json and --html. Expected one of them.")
    if options.html:
        from dlsweep.results.report import page

        print(page.main(options.folders, options.out))
    else:
        from dlsweep.results import tables

        tables.main(options.folders, options.json)
    return 0


def _save(arguments: Sequence[str]) -> int:
    parser = help.parser(
        "save", "save a run's trained model to a file of its framework's own format"
    )
    parser.add_argument("folder", type=Path, help="the run folder, as outputs/mnist/trials/0007")
    parser.add_argument(
        "file",
        type=Path,
        help="its suffix says the format: .keras or .weights.h5 for Keras, .pt or .safetensors for "
        "PyTorch",
    )
    options = parser.parse_args(arguments)
    from dlsweep.folders.rundir import RunDir
    from dlsweep.results.loading import save_model
    from dlsweep.run.run import Run
    from dlsweep.security.trust import check_trusted

    check_trusted(Run(RunDir(options.folder)).config, options.folder, conf_folders())
    save_model(options.folder, options.file)
    print(options.file)
    return 0


def _best(arguments: Sequence[str]) -> int:
    parser = help.parser("best", "train the best trials over several seeds, and choose one")
    from dlsweep.cli import best

    best.add_arguments(parser)

    def sweep(command: Sequence[str]) -> None:
        sys.argv[1:] = overrides_first(command)
        _run_hydra()

    best.run(parser.parse_intermixed_args(arguments), sweep, conf_folders())
    return 0


def _export(arguments: Sequence[str]) -> int:
    parser = help.parser("export", "export a trained model to formats that other programs run")
    from dlsweep.cli import export

    export.add_arguments(parser)
    export.run(parser.parse_args(arguments), conf_folders())
    return 0


def _sync(arguments: Sequence[str]) -> int:
    parser = help.parser("sync", "sync run folders to trackers")
    _add_trackers(parser)
    parser.add_argument(
        "--follow", action="store_true", help="continue until standard input closes"
    )
    options = parser.parse_args(arguments)
    from dlsweep.cli.tracking_config import parse_trackers
    from dlsweep.trackers import mirror

    names, added = parse_trackers(options.folder, options.trackers)
    return mirror.main(options.folder, names, options.follow, added)


def _verify(arguments: Sequence[str]) -> int:
    parser = help.parser("verify", "compare a study, its run folders and its trackers")
    _add_trackers(parser)
    parser.add_argument("--repair", action="store_true", help="sync what differs again")
    _add_json(parser)
    options = parser.parse_args(arguments)
    from dlsweep.cli.tracking_config import parse_trackers
    from dlsweep.results import verify

    names, added = parse_trackers(options.folder, options.trackers)
    return verify.main(options.folder, names, options.repair, added, options.json)


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print lines of JSON, for scripts")


def _add_trackers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="a study's folder or a run's")
    parser.add_argument(
        "trackers",
        nargs="*",
        help="which of them, others than the runs were made with included, and overrides of their "
        "options, as tracking.wandb.project=mine; default: those that the runs were made with",
    )


def _prune(arguments: Sequence[str]) -> int:
    parser = help.parser("prune", "remove what ended trials of a study no longer need, once shown")
    from dlsweep.cli import prune

    prune.add_arguments(parser)
    return prune.run(parser.parse_args(arguments))


def _ui(arguments: Sequence[str]) -> int:
    parser = help.parser("ui", "open dashboards on this machine until Ctrl-C")
    parser.add_argument(
        "tools", nargs="*", help="report, mlflow, tensorboard, optuna; default: all"
    )
    parser.add_argument(
        "--folder", type=Path, default="outputs", help="a study's folder, or that of all studies"
    )
    options = parser.parse_args(arguments)
    from dlsweep.cli import ui

    for tool in set(options.tools) - set(ui.TOOLS):
        parser.error(f"Received {tool!r}. Expected {', '.join(ui.TOOLS)}.")
    ui.serve(ui.find_dashboards(options.folder, options.tools))
    return 0


def _serve(arguments: Sequence[str]) -> int:
    parser = help.parser("serve", "serve an exported model over HTTP until Ctrl-C")
    parser.add_argument(
        "folder", type=Path, help="an export, as exports/digits/onnx, or one version of it"
    )
    parser.add_argument("--name", help="the model's name in addresses; default: the export's")
    parser.add_argument("--host", default="127.0.0.1", help="default: %(default)s")
    parser.add_argument("--port", type=int, default=8501, help="default: %(default)s; 0: any free")
    parser.add_argument("--max-body-mb", type=float, default=64, help="default: %(default)s")
    options = parser.parse_args(arguments)
    if not 0 <= options.port < 65536:
        parser.error(f"--port: Received {options.port}. Expected 0 to 65535.")
    if not 0 < options.max_body_mb < 1e6:
        parser.error(f"--max-body-mb: Received {options.max_body_mb:g}. Expected more than 0.")
    for package in ("starlette", "uvicorn", "orjson"):
        require_package(package, "serve")
    from dlsweep.serve import server

    limit = int(options.max_body_mb * 2**20)
    server.serve(options.folder, options.name, options.host, options.port, limit)
    return 0


def _devices(arguments: Sequence[str]) -> int:
    help.parser("devices", "print what each framework sees, and what a sweep would use").parse_args(
        arguments
    )
    from dlsweep.cli import devices

    devices.main()
    return 0


def _check() -> int:
    from dlsweep.drive.preflight import check

    check(Path(os.environ[RUN_VARIABLE]))
    return 0


_VERBS: dict[str, Callable[[Sequence[str]], int]] = {
    "status": _status,
    "attach": _attach,
    "pause": _pause,
    "resume": _resume,
    "stop": _stop,
    "enqueue": _enqueue,
    "extend": _extend,
    "report": _report,
    "save": _save,
    "best": _best,
    "export": _export,
    "sync": _sync,
    "devices": _devices,
    "verify": _verify,
    "prune": _prune,
    "ui": _ui,
    "serve": _serve,
}


def _end(message: object) -> None:
    from dlsweep.security.printable import printable
    from dlsweep.security.secrets import scrub

    print(printable(scrub(str(message))), file=sys.stderr)
    raise SystemExit(1)
