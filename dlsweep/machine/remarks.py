"""Leaves out what TensorFlow remarks on the processor and on absent GPUs while it is imported.

TensorFlow prints these lines before its own log level counts: no environment variable hides them
without changing what is computed.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

#: Remarks, each a whole line. Everything else is printed.
_REMARK = re.compile(
    rb"WARNING: All log messages before absl::InitializeLog\(\) is called are written to STDERR"
    rb"|.* port\.cc:\d+\] oneDNN custom operations are on\..*"
    rb"|.* cuda_\w+\.cc:\d+\] Unable to register cu\w+ factory: .* has already been registered"
    rb"|.* computation_placer\.cc:\d+\] computation placer already registered\..*"
)
_CHUNK = 1 << 16


@contextmanager
def without_remarks() -> Iterator[None]:
    """Passes standard error through a process that leaves out TensorFlow's remarks.

    It is a process, so the last words of an import that crashes are printed, too. A process with
    threads is not forked; then the remarks are printed. The same if TensorFlow is imported already.
    """
    if "tensorflow" in sys.modules or threading.active_count() > 1:
        yield
        return
    sys.stderr.flush()
    kept = os.dup(2)
    _send_through_a_filter()
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)


def _send_through_a_filter() -> None:
    """Makes standard error a pipe to a filter, which nobody waits for.

    It ends when the last process closes the pipe; that may be one that the import has started.
    """
    reader, writer = os.pipe()
    if (between := os.fork()) == 0:
        os.close(writer)
        if os.fork() == 0:
            _filter(reader)
        os._exit(0)
    os.waitpid(between, 0)
    os.close(reader)
    os.dup2(writer, 2)
    os.close(writer)


def _filter(reader: int) -> None:
    """Copies lines to standard error until the other end closes; ends this process."""
    try:
        rest = b""
        while chunk := os.read(reader, _CHUNK):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if not _REMARK.fullmatch(line):
                    os.write(2, line + b"\n")
        os.write(2, rest)
    finally:
        os._exit(0)
