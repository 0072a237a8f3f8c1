"""Reads the code blocks of a page, and does in a folder what its reader would do.

A block with a title is a file; ``bash`` and ``python`` are run; ``text`` is what the block before
it printed, or, after a ``$``, a command that is refused, with its message. Numbers may differ from
run to run, and so may lines with ``…``.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import metadata
from pathlib import Path

ROOT = Path(__file__).parents[2]
TOOLS = str(Path(sys.executable).parent)
_BLOCK = re.compile(r'```(\w+)(?: title="([^"]+)")?\n(.*?)```', re.DOTALL)
_NUMBER = re.compile(r"[+-]?\d[\d.,]*(e[+-]?\d+)?")
_INSTALLS = ("python3 -m venv", "pip install", "make ")
_PORT = "8501"
_OURS = ("dlsweep.cli.main", "dlsweep.trial.task", "optuna", "pandas")
_KERAS = (*_OURS, "tensorflow", "keras", "dlsweep.keras")
_TORCH = (*_OURS, "torch", "torch._dynamo", "torch.utils.data", "dlsweep.torch")
#: Runs one command in a folder; returns its exit code and what it printed.
Shell = Callable[[str, Path], tuple[int, str]]


@dataclass(frozen=True)
class Block:
    """A code block of a page."""

    language: str
    file: str
    text: str


def blocks(page: Path) -> list[Block]:
    return [Block(*found) for found in _BLOCK.findall(page.read_text())]


def commands(bash: str) -> list[str]:
    return [line for line in bash.replace("\\\n", " ").splitlines() if line]


def bash_of(page: Path) -> list[str]:
    """The commands of a page, in their order."""
    return [line for one in blocks(page) if one.language == "bash" for line in commands(one.text)]


def walk(page: Path, folder: Path, run: Shell) -> None:
    """Does what a page says, in its order, and compares what is printed."""
    with _servers(folder) as start:
        reader = _Reader(folder, run, start)
        for block in blocks(page):
            reader.read(block)


class _Reader:
    """A reader of a page, who starts its servers on a port of their own."""

    def __init__(self, folder: Path, run: Shell, start: Callable[[str], None]) -> None:
        self.folder = folder
        self.run = run
        self.start = start
        self.port = str(_free_port())
        self.printed = ""

    def read(self, block: Block) -> None:
        text = block.text.replace(_PORT, self.port)
        if block.file:
            self.write(block.file, text)
        elif block.language == "bash":
            self.printed = "".join(map(self.command, commands(text)))
        elif block.language == "python":
            self.write("block.py", text)
            self.printed = self.command("python block.py")
        else:
            assert block.language == "text", f"a block of {block.language} that is not a file"
            self.compare(text)

    def write(self, name: str, text: str) -> None:
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_text(text)

    def command(self, line: str) -> str:
        if line.startswith(_INSTALLS):
            _check_extras(line)
            return ""
        if " dlsweep serve " in line:
            self.start(f"{line} --port {self.port}")
            return ""
        code, printed = self.run(line, self.folder)
        assert not code, f"{line}\n{printed}"
        return printed

    def compare(self, text: str) -> None:
        if text.startswith("$ "):
            command, _, text = text.removeprefix("$ ").partition("\n")
            code, self.printed = self.run(command, self.folder)
            assert code, f"{command}: it is not refused\n{self.printed}"
        there = "\n".join(map(_masked, self.printed.splitlines()))
        for line in text.splitlines():
            if "…" not in line and _masked(line) not in there:
                raise AssertionError(f"The page shows\n{line}\nand there was\n{self.printed}")


def _check_extras(line: str) -> None:
    """An installation is tried by CI; here its extras must be ones that there are."""
    known = metadata("dlsweep").get_all("Provides-Extra") or []
    for named in re.findall(r"\[(.*?)\]", line):
        assert set(named.split(",")) <= set(known), line


def _masked(line: str) -> str:
    return " ".join(_NUMBER.sub("#", line).split())


def shell(command: str, folder: Path) -> tuple[int, str]:
    """A shell as the reader's."""
    env = {**os.environ, "PATH": f"{TOOLS}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
    )
    return done.returncode, done.stdout


@contextmanager
def warm_shell() -> Iterator[Shell]:
    """A shell whose commands start in forks of processes that have imported a framework.

    Runs and sweeps are inline and have no trackers, unless their command says otherwise; a command
    of Keras has ``keras`` in it.
    """
    with ExitStack() as ends:
        parent = cache(lambda modules: ends.enter_context(_parent(*modules)))

        def run(command: str, folder: Path) -> tuple[int, str]:
            words = shlex.split(command)
            if words[0] != "python":
                return shell(command, folder)
            script = (folder / words[1]).read_text() if words[1].endswith(".py") else ""
            is_keras = re.search("keras|tensorflow", f"{command}{script}", re.I)
            return parent(_KERAS if is_keras else _TORCH)(words[1:] + _cheaper(words), folder)

        yield run


def _cheaper(words: list[str]) -> list[str]:
    if words[1:3] != ["-m", "dlsweep"] or "=" not in words[3]:
        return []
    names = {word.partition("=")[0] for word in words}
    alone = [] if names & {"launcher", "debug", "training.replicas"} else ["launcher=inline"]
    return alone + ([] if "tracking" in names else ["tracking=none"])


@contextmanager
def _parent(*modules: str) -> Iterator[Callable[[list[str], Path], tuple[int, str]]]:
    parent = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("warm.py")), *modules],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def run(argv: list[str], folder: Path) -> tuple[int, str]:
        with tempfile.NamedTemporaryFile() as log:
            assert parent.stdin
            assert parent.stdout
            request = {"argv": argv, "folder": str(folder), "log": log.name}
            print(json.dumps(request), file=parent.stdin, flush=True)
            return int(parent.stdout.readline()), Path(log.name).read_text()

    try:
        yield run
    finally:
        parent.communicate()


@contextmanager
def _servers(folder: Path) -> Iterator[Callable[[str], None]]:
    running: list[subprocess.Popen[str]] = []

    def start(command: str) -> None:
        server = subprocess.Popen(
            ["bash", "-c", f"exec {TOOLS}/{command}"],
            cwd=folder,
            stdout=subprocess.PIPE,
            text=True,
        )
        running.append(server)
        assert server.stdout
        assert "http://" in server.stdout.readline(), f"{command}: it does not start"

    try:
        yield start
    finally:
        for server in running:
            server.terminate()
            server.communicate()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
