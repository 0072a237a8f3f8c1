"""Runs a trial's command in this process, with the user's code from the sweep's snapshot."""

from __future__ import annotations

import os
import runpy
import sys
import traceback

from dlsweep.launchers.snapshot import CODE_VARIABLE


def run_python(argv: list[str]) -> int:
    """Runs ``python <argv>`` in this process; returns the exit code."""
    try:
        if argv[0] == "-m":
            sys.argv = argv[1:]
            if code := os.environ.get(CODE_VARIABLE):
                sys.path.insert(0, code)
            runpy.run_module(argv[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = list(argv)
            sys.path[0] = os.path.dirname(os.path.abspath(argv[0]))
            runpy.run_path(argv[0], run_name="__main__")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - the top of a trial's process, as the interpreter's own
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(run_python(sys.argv[1:]))
