"""The verb ``export``: its arguments, and what it prints."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from rich.table import Table

from dlsweep.drive.progress import make_console
from dlsweep.errors import ConfigError, DlsweepError, ExportError
from dlsweep.export.export import Exported, Options, export
from dlsweep.export.register import CHAMPION, Registration
from dlsweep.export.source import run_to_export
from dlsweep.folders.rundir import RunDir
from dlsweep.runtimes.formats import FORMATS
from dlsweep.trainers.exporting import Quantization


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of ``export``."""
    parser.add_argument(
        "folder", type=Path, help="a run folder, or a study's: its best trial is exported"
    )
    parser.add_argument(
        "--to", default="onnx", help=f"one or more of {','.join(FORMATS)}; default: onnx"
    )
    parser.add_argument(
        "--quantize", choices=get_args(Quantization), help="smaller numbers, for onnx and litert"
    )
    parser.add_argument("--name", help="the name of the export; default: the study's")
    parser.add_argument("--out", type=Path, default=Path("exports"), help="default: exports")
    parser.add_argument(
        "--tolerance",
        type=float,
        help="how far the exported model may differ from the trained one, on validation data",
    )
    parser.add_argument(
        "--register", metavar="NAME", help="also register it in MLflow and W&B under this name"
    )
    parser.add_argument(
        "--alias", help=f"what names the first format of --to there; default: {CHAMPION}"
    )


def run(arguments: argparse.Namespace, conf: Sequence[Path]) -> None:
    """Exports, and prints a table.

    Raises:
        DlsweepError: If something cannot be exported.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's remarks on the processor
    names = [name for name in str(arguments.to).split(",") if name]
    options = Options(
        formats=list(dict.fromkeys(names)),
        quantization=arguments.quantize,
        name=arguments.name,
        out=arguments.out,
        tolerance=arguments.tolerance,
    )
    run_dir = run_to_export(arguments.folder)
    registration = _registration(arguments, run_dir)
    done: list[Exported] = []
    refused: list[ExportError] = []
    for result in export(run_dir, options, conf):
        done.append(result) if isinstance(result, Exported) else refused.append(result)
    if done:
        _print(done)
    if registration:
        first = options.formats[0]
        refused += [fault for one in done if (fault := _register(registration, one, first))]
    if refused:
        raise ExportError("\n".join(map(str, refused)))


def _registration(arguments: argparse.Namespace, run: RunDir) -> Registration | None:
    if arguments.register is not None:
        return Registration(run, arguments.register, arguments.alias or CHAMPION)
    if arguments.alias is not None:
        raise ConfigError(
            f"--alias: Received {arguments.alias!r} without --register. Expected both, as  "
            f"--register digits --alias {CHAMPION}"
        )
    return None


def _register(registration: Registration, one: Exported, first: str) -> ExportError | None:
    """Registers an export and prints where; returns the reason if that fails."""
    try:
        for line in registration.add(one.folder, is_champion=one.form == first):
            print(f"  registered in {line}")
    except DlsweepError as error:
        return ExportError(f"{one.folder} is exported, but not registered.\n{error}")
    return None


def _print(exports: Sequence[Exported]) -> None:
    console = make_console()
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("exported")
    for title in ("difference", "same class", "quality", "size", "batch of 1", "batch of 256"):
        table.add_column(title, justify="right")
    for one in exports:
        table.add_row(str(one.folder), *_cells(one))
    console.print(table)
    console.print("Quality and times: of the trained model, then of the exported one.")
    for one in exports:
        if one.form in ("onnx", "savedmodel"):
            folder = shlex.quote(str(one.folder.parent))
            console.print(f"  python -m dlsweep serve {folder}", soft_wrap=True)


def _cells(one: Exported) -> list[str]:
    parity = one.parity
    agreement = "-" if parity.agreement is None else f"{parity.agreement:.2%}"
    quality = f"{parity.trained:.4g} {parity.exported:.4g}" if parity.measure else "-"
    latency: Any = one.report["latency_ms"].values()
    times = [f"{each['trained']:.3g} {each['exported']:.3g} ms" for each in latency]
    size = f"{one.report['size_bytes'] / 1000:,.0f} kB"
    return [f"{parity.largest_difference:.2g}", agreement, quality, size, *times]
