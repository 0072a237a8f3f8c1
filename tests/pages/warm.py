"""Runs commands one after another, each in a fork of this process, which has imported a framework.

Each line of standard input is a request in JSON: ``argv`` of Python, ``folder``, and ``log``, the
file for what it prints. Each is answered with its exit code.
"""

from __future__ import annotations

import importlib
import json
import os
import sys

from dlsweep.launchers.program import run_python


def main() -> None:
    for module in sys.argv[1:]:
        importlib.import_module(module)
    for line in sys.stdin:
        request = json.loads(line)
        if not (pid := os.fork()):
            _run(request)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def _run(request: dict) -> None:
    log = os.open(request["log"], os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    os.chdir(request["folder"])
    code = 1
    try:
        code = run_python(request["argv"])
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


if __name__ == "__main__":
    main()
