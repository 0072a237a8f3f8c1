"""``python -m dlsweep --help``, and the help of each verb."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

_TEXT = """\
dlsweep trains one run, or searches hyperparameters in many, and loses nothing.

  Train once            python -m dlsweep +experiment=mnist training.epochs=3
  Sweep                 python -m dlsweep +experiment=mnist -m
  Look before           python -m dlsweep +experiment=mnist hydra.sweeper.plan=true -m
  A grid                python -m dlsweep model.hidden=64,128 seed=1,2 -m
  A search of your own  python -m dlsweep 'training.optimizer.lr=tag(log,interval(1e-4,1e-1))' \\
                            hydra.sweeper.n_trials=20 -m
  In a debugger         python -m dlsweep launcher=inline
  Resume a sweep        the same command again
  Resume a run          python -m dlsweep resume outputs/mnist/runs/<run>
  What sweeps do now    python -m dlsweep status outputs
  Watch a sweep         python -m dlsweep attach outputs/mnist
  Stop it, or a trial   python -m dlsweep stop outputs/mnist/trials/0007
  Start no more trials  python -m dlsweep pause outputs/mnist      resume: they start again
  More trials in it     python -m dlsweep extend outputs/mnist --n-trials 48
  Try a point next      python -m dlsweep enqueue outputs/mnist training.optimizer.lr=0.01
  A study's results     python -m dlsweep report outputs/mnist
  Studies side by side  python -m dlsweep report outputs/mnist outputs/keras --html
  Save a trained model  python -m dlsweep save outputs/mnist/runs/<run> model.pt
  The best, for sure    python -m dlsweep best outputs/mnist --top 3 --seeds 5
  Train it again        python -m dlsweep +best=outputs/mnist
  Export it             python -m dlsweep export outputs/mnist --to onnx --name digits
  Serve an export       python -m dlsweep serve exports/digits/onnx
  What a sweep can use  python -m dlsweep devices
  Sync the trackers     python -m dlsweep sync outputs/mnist
  Compare all of it     python -m dlsweep verify outputs/mnist
  Free the disk         python -m dlsweep prune outputs/mnist
  Open the dashboards   python -m dlsweep ui

Groups, one choice each, as in  model=cnn  (your own folder ./conf adds to them):

{groups}

See what they compose     add  --cfg job              and override any key:  training.epochs=3
See the sweep's own keys  add  --cfg hydra -p hydra.sweeper
Hydra's own flags         python -m dlsweep --hydra-help
Completion with Tab       eval "$(dlsweep -sc install=bash)"     then type  dlsweep model=<Tab>
A verb's own help         python -m dlsweep status --help
"""

#: Of each verb: an example, and the page under docs/ to read on.
_VERBS = {
    "status": ("outputs", "running.md"),
    "attach": ("outputs/mnist", "running.md"),
    "pause": ("outputs/mnist", "running.md"),
    "resume": ("outputs/mnist/runs/2026-11-29_10-00-00", "running.md"),
    "stop": ("outputs/mnist/trials/0007", "running.md"),
    "enqueue": ("outputs/mnist training.optimizer.lr=0.01", "running.md"),
    "extend": ("outputs/mnist --n-trials 48", "running.md"),
    "report": ("outputs/mnist outputs/keras --html", "report.md"),
    "save": ("outputs/mnist/trials/0007 model.pt", "export.md"),
    "best": ("outputs/mnist --top 3 --seeds 5", "best.md"),
    "export": ("outputs/mnist --to onnx,torch --name digits", "export.md"),
    "sync": ("outputs/mnist wandb tracking.wandb.project=digits", "running.md"),
    "devices": ("", "running.md"),
    "verify": ("outputs/mnist --repair", "automation.md"),
    "prune": ("outputs/mnist --keep 10", "disk.md"),
    "ui": ("mlflow optuna --folder outputs/mnist", "report.md"),
    "serve": ("exports/digits/onnx --port 8501", "serve.md"),
}


def parser(verb: str, description: str) -> argparse.ArgumentParser:
    """Returns the parser of a verb; its help has an example and where to read on."""
    example, page = _VERBS[verb]
    command = f"python -m dlsweep {verb}"
    return argparse.ArgumentParser(
        prog=command,
        description=f"{description[:1].upper()}{description[1:]}.",
        epilog=f"Example:  {command} {example}".rstrip() + f"\nRead on:  docs/{page}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def text(folders: Iterable[Path]) -> str:
    """Returns the help text, with the config groups in these folders.

    Args:
        folders: The user's folder, if there is one, and the shipped one.
    """
    groups: dict[str, set[str]] = {}
    for folder in folders:
        for file in folder.glob("**/*.yaml"):
            group = file.parent.relative_to(folder).as_posix()
            groups.setdefault(group, set()).add(file.stem)
    groups.pop(".", None)
    width = max(map(len, groups), default=0)
    lines = [f"  {name:<{width}}  {', '.join(sorted(groups[name]))}" for name in sorted(groups)]
    return _TEXT.format(groups="\n".join(lines))
