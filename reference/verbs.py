"""The page of the command line: what ``--help`` prints, of dlsweep and of each verb."""

from __future__ import annotations

import contextlib
import io
import os
from unittest import mock

from dlsweep.cli import help, main
from dlsweep.cli.search_path import conf_dir
from reference import NOTE

_INTRO = f"""{NOTE}

# Command line

`python -m dlsweep <overrides>` trains once, with `-m` it sweeps, and with a verb as its first
word it does what is described below. `dlsweep` alone is the same command as `python -m dlsweep`.
[Exit codes](../automation.md) are the same for all verbs.

```text
$ python -m dlsweep --help
{{text}}```
"""


def page() -> str:
    """Returns the page."""
    parts = [_INTRO.format(text=help.text([conf_dir()]))]
    for verb, run in main._VERBS.items():
        command = f"python -m dlsweep {verb} --help"
        parts.append(f"## `{verb}`\n\n```text\n$ {command}\n{_help(run)}```\n")
    return "\n".join(parts)


def _help(run: object) -> str:
    """Returns what a verb prints for ``--help``, 88 columns wide."""
    output = io.StringIO()
    wide = mock.patch.dict(os.environ, {"COLUMNS": "90", "NO_COLOR": "1"})
    with contextlib.redirect_stdout(output), contextlib.suppress(SystemExit), wide:
        assert callable(run)
        run(["--help"])
    return output.getvalue()
