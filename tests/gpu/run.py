"""``make gpu``: everything that must be seen on a GPU, within eight minutes, as a Markdown report.

Each check runs in a process group of its own with a time limit, so one that fails or hangs ends no
other. Needs PyTorch with CUDA and dlsweep's own packages; no network, no TensorFlow.

Exit codes: 0 if all that could be checked held, 1 if something did not, 2 without a GPU.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from checks import CHECKS  # noqa: E402

#: Seconds for all checks together.
_BUDGET = 460.0
_DEVICE = """
import torch
print(f"PyTorch {torch.__version__}, CUDA {torch.version.cuda}")
if torch.cuda.is_available():
    names = [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())]
    print("; ".join(names))
    raise SystemExit(0)
raise SystemExit(7)
"""


def main() -> int:
    """Runs the checks and prints the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="write the report to this file, too")
    parser.add_argument("--cpu", action="store_true", help="run the checks' code on a CPU")
    parser.add_argument("checks", nargs="*", help=f"of {', '.join(c.__name__ for c in CHECKS)}")
    options = parser.parse_args()
    known = {check.__name__: check for check in CHECKS}
    if unknown := set(options.checks) - known.keys():
        parser.error(f"Received {sorted(unknown)[0]!r}. Expected {', '.join(known)}.")
    said, reason = device()
    if reason and not options.cpu:
        print(f"{reason}\nRun this on a machine with an NVIDIA GPU; --cpu runs the code on a CPU.")
        return 2
    report = Report(options.out)
    report.add(f"# dlsweep on {'a CPU, to try the checks' if options.cpu else 'a GPU'}\n")
    report.add(f"{said}, Python {platform.python_version()}, {time.strftime('%Y-%m-%d %H:%M')}\n")
    report.add("| check | result | seconds | what was seen |\n|---|---|---|---|")
    begun, words = time.monotonic(), []
    for name in options.checks or known:
        left = _BUDGET - (time.monotonic() - begun)
        word, seconds, text = check(name, min(CHECKS[known[name]], left), options.cpu)
        words.append(word)
        first, *rest = (text.strip() or "it printed nothing").splitlines()
        report.add(f"| {name} | {word} | {seconds:.0f} | {first.replace('|', '/')} |")
        report.details(name, rest)
    held = words.count("held")
    report.add(f"\n{held} of {len(words)} held, {time.monotonic() - begun:.0f} s.")
    report.end()
    return 0 if set(words) <= {"held", "not here"} else 1


def device() -> tuple[str, str]:
    """Returns what the machine has, and why the checks cannot run; the second may be empty."""
    done = subprocess.run([sys.executable, "-c", _DEVICE], capture_output=True, text=True)
    if done.returncode not in (0, 7):
        return "no PyTorch", "PyTorch cannot be imported here, so nothing can be checked."
    words = ", ".join(done.stdout.split("\n")).strip(", ")
    return words, "" if done.returncode == 0 else f"There is no GPU: {words} sees none."


def check(name: str, limit: float, on_cpu: bool) -> tuple[str, float, str]:
    """Runs one check; returns the word for its result, its seconds and what it printed."""
    begun = time.monotonic()
    if limit < 5:
        return "no time", 0.0, f"the {_BUDGET:.0f} s for all checks are over"
    process = subprocess.Popen(
        [sys.executable, str(HERE / "checks.py"), name, "cpu" if on_cpu else "gpu"],
        cwd=HERE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        printed, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        _kill(process)
        return "timed out", time.monotonic() - begun, f"it took longer than {limit:.0f} s"
    _kill(process)
    word = {0: "held", 1: "FAILED", 3: "not here"}.get(process.returncode, "FAILED")
    if "Traceback (most recent call last)" in printed and word != "held":
        printed = f"{printed.strip().splitlines()[-1]}\n{printed}"
    elif word == "held":
        printed = printed.strip().splitlines()[-1]
    return word, time.monotonic() - begun, printed


def _kill(process: subprocess.Popen[str]) -> None:
    """Ends a check with what it has started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    finally:
        process.wait()


class Report:
    """Prints the report line by line, so what was seen is there even if this process is killed."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._details: list[str] = []
        if path:
            path.write_text("")

    def add(self, text: str) -> None:
        """Prints a part, and appends it to the file."""
        print(text, flush=True)
        if self._path:
            with self._path.open("a") as file:
                file.write(f"{text}\n")

    def details(self, name: str, lines: list[str]) -> None:
        """Keeps the rest of what a check printed, for the end."""
        if lines:
            self._details.append("\n".join([f"\n## {name}\n", "```text", *lines[-60:], "```"]))

    def end(self) -> None:
        """Prints what was kept."""
        for text in self._details:
            self.add(text)


if __name__ == "__main__":
    raise SystemExit(main())
