from __future__ import annotations

import subprocess
import sys

import pytest

REMARKS = r"""
WARNING: All log messages before absl::InitializeLog() is called are written to STDERR
I0000 00:00:1795924318.885059   19172 port.cc:153] oneDNN custom operations are on. You may see
E0000 00:00:1.5 3 cuda_dnn.cc:8310] Unable to register cuDNN factory: it has already been registered
"""
REAL = "E0000 00:00:1.5 3 cuda_dnn.cc:8310] Loaded runtime CuDNN library: 8.9.4 but source was 9"


def stderr_of(code: str) -> tuple[int, str]:
    begin = "import os, sys; from dlsweep.machine.remarks import without_remarks\n"
    done = subprocess.run([sys.executable, "-c", begin + code], capture_output=True, text=True)
    return done.returncode, done.stderr


def test_remarks_are_left_out_and_all_else_is_printed_in_order():
    code, said = stderr_of(
        f"with without_remarks():\n"
        f"    os.write(2, {(REMARKS + REAL).encode()!r} + b'\\nno end')\n"
        f"print('after', file=sys.stderr)"
    )
    assert code == 0
    lines = said.replace("no endafter", "no end\nafter").split()
    assert "".join(lines).replace("after", "") == "".join(f"{REAL} no end".split())


@pytest.mark.parametrize("death", ["os.abort()", "os._exit(134)", "raise SystemExit(134)"])
def test_the_last_words_of_an_import_that_dies_are_printed(death):
    _, said = stderr_of(
        f"with without_remarks():\n    os.write(2, b'an illegal instr')\n    {death}"
    )
    assert "an illegal instr" in said


def test_a_process_that_an_import_starts_holds_nothing_up():
    code, said = stderr_of(
        "import subprocess\n"
        "with without_remarks():\n"
        "    child = subprocess.Popen(['sleep', '60'], stdout=subprocess.DEVNULL)\n"
        "print('on', file=sys.stderr)\nchild.kill(); child.wait()"
    )
    assert (code, said) == (0, "on\n")


def test_threads_and_an_earlier_import_leave_standard_error_as_it_is():
    code, said = stderr_of(
        "import threading; e = threading.Event()\n"
        "threading.Thread(target=e.wait).start()\n"
        "same = lambda: os.fstat(2).st_ino\n"
        "before = same()\n"
        "with without_remarks():\n"
        "    assert same() == before\n"
        "e.set(); sys.modules['tensorflow'] = os\n"
        "with without_remarks():\n"
        "    assert same() == before\n"
    )
    assert (code, said) == (0, "")
