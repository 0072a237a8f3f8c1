"""The warm parent: a process that has imported the framework and forks every trial.

It only imports. It never computes and never touches a GPU, so forking from it is safe. If an import
starts threads, forking is not safe: then it prints that and starts fresh processes instead.

The driver sends it JSON messages over a socket pair: ``{"argv", "env", "cwd"}`` with the file
descriptors of the log and of the channel. It answers ``{"started": pid}`` in the same order, and
``{"ended": pid, "code": exit code}`` when a trial ends. It ends when the driver ends.

A fork inherits exit handlers and threads' state that belong to the parent. Python has no public way
to drop them; without the private names below, a trial would run the parent's exit handlers.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import json
import multiprocessing.util
import os
import select
import signal
import socket
import sys
import threading
import traceback
from typing import Any, NoReturn

from dlsweep.launchers.program import run_python
from dlsweep.machine.imports import no_garbage
from dlsweep.machine.remarks import without_remarks
from dlsweep.run.channel import CHANNEL_VARIABLE

_PACKET = 1 << 17
#: Signals that reach every process of a terminal or of a Slurm job; the driver or the worker, which
#: gets them too, decides what they mean. Trials ignore SIGUSR2, which would kill them otherwise.
_NOT_FOR_US = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)


def main() -> None:
    """Serves a driver: ``python -m dlsweep.launchers.warm <descriptor> <module>...``."""
    for number in _NOT_FOR_US:
        signal.signal(number, signal.SIG_IGN)
    server = socket.socket(fileno=int(sys.argv[1]))
    wakeup, wake = socket.socketpair()
    wakeup.setblocking(False)
    wake.setblocking(False)
    signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    warm = _preload(server, sys.argv[2:])
    while True:
        ready, _, _ = select.select([server, wakeup], [], [])
        if wakeup in ready:
            wakeup.recv(4096)
            _reap(server)
        if server in ready:
            message, descriptors = _receive(server)
            if not message:
                return
            _start(server, json.loads(message), descriptors, warm)


def _receive(server: socket.socket) -> tuple[bytes, list[int]]:
    try:
        message, descriptors, _, _ = socket.recv_fds(server, _PACKET, 2)
    except ConnectionResetError:
        return b"", []  # the driver closed with an unread message
    return message, descriptors


def _preload(server: socket.socket, modules: list[str]) -> bool:
    """Imports the modules; returns whether forking is safe afterwards."""
    try:
        with no_garbage(), without_remarks():
            for name in modules:
                importlib.import_module(name)
            if modules:
                _warm_up_grammar()
    except Exception:  # noqa: BLE001 - any failure of any module is told to the driver
        _tell(server, {"failed": name, "error": traceback.format_exc(limit=-3)})
        return False
    threads = _thread_count() if modules else 1
    _tell(server, {"threads": threads})
    return bool(modules) and threads == 1


def _warm_up_grammar() -> None:
    """Resolves interpolations once: their parser builds its tables on first use, in 10 ms."""
    from omegaconf import OmegaConf

    OmegaConf.resolve(OmegaConf.create({"a": {"b": 1}, "c": "${a.b}", "d": "x.${a.b}.y"}))


def _thread_count() -> int:
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return threading.active_count()


def _tell(server: socket.socket, message: dict[str, Any]) -> None:
    try:
        server.send(json.dumps(message).encode())
    except OSError:
        return  # the driver has died; the next read ends this process


def _reap(server: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)  # processes that the trial has left
        _tell(server, {"ended": pid, "code": os.waitstatus_to_exitcode(status)})


def _start(
    server: socket.socket, request: dict[str, Any], descriptors: list[int], warm: bool
) -> None:
    pid = os.fork()
    if pid == 0:
        server.close()
        _become_trial(request, descriptors, warm)
    for descriptor in descriptors:
        os.close(descriptor)
    _tell(server, {"started": pid})


def _become_trial(request: dict[str, Any], descriptors: list[int], warm: bool) -> NoReturn:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.setpgid(0, 0)
    log, wire = descriptors
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.set_inheritable(wire, True)
    os.chdir(request["cwd"])
    os.environ.update(request["env"])
    os.environ[CHANNEL_VARIABLE] = str(wire)
    argv: list[str] = request["argv"]
    if not warm:
        command = [sys.executable, "-m", "dlsweep.launchers.program", *argv]
        os.execv(sys.executable, command)  # noqa: S606
    atexit._clear()  # imports registered these for the parent; 40 ms in a trial
    atexit.register(multiprocessing.util._exit_function)  # type: ignore[attr-defined]
    code = 1
    try:
        code = run_python(argv)
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:  # also if flushing fails: a trial never returns to its parent's loop
        os._exit(code)


if __name__ == "__main__":
    main()
