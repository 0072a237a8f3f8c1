"""``python -m dlsweep devices``: prints this machine's devices, and the slots of a sweep.

Each framework runs in a process of its own: importing one takes seconds, and TensorFlow reserves
GPUs when it lists them.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from dlsweep.errors import DlsweepError
from dlsweep.machine.devices import cpu_count, cut_slots, shared

#: Prints a framework's build and the GPUs that it sees, as JSON.
_QUESTIONS = {
    "torch": """
import json, torch
gpus = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]
print(json.dumps([torch.version.cuda or torch.version.hip, gpus]))
""",
    "tensorflow": """
import json, tensorflow as tf
details = tf.config.experimental.get_device_details
gpus = [details(gpu).get("device_name", gpu.name) for gpu in tf.config.list_physical_devices("GPU")]
print(json.dumps([tf.sysconfig.get_build_info().get("cuda_version"), gpus]))
""",
}
_PACKAGES = ("torch", "tensorflow", "keras")
_PATIENCE = 120.0
_FORMAT = "--format=csv,noheader"


def main() -> None:
    """Prints the table."""
    width = 13
    with ThreadPoolExecutor() as pool:
        frameworks = list(zip(_PACKAGES, pool.map(_framework, _PACKAGES), strict=True))
    lines = [("CPU", _count(cpu_count(), "core")), *_gpus(), *frameworks, ("a sweep", _sweep())]
    for name, text in lines:
        print(f"{name:<{width}}" + text.replace("\n", "\n" + " " * width))


def _gpus() -> Iterator[tuple[str, str]]:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        yield "", f"CUDA_VISIBLE_DEVICES={visible} hides all others from what follows"
    program = shutil.which("nvidia-smi")
    if program is None:
        yield "GPU", "none: there is no nvidia-smi, so no NVIDIA driver is installed"
        return
    summary = _output([program])
    rows = _output([program, "--query-gpu=index,name,memory.total,driver_version", _FORMAT])
    if summary is None or not rows:
        yield "GPU", "none: nvidia-smi is installed and finds none"
        return
    for row in rows.splitlines():
        index, name, memory, driver = row.split(", ")
        yield "GPU", f"{index}: {name}, {memory}"
    cuda = re.search(r"CUDA Version: *([\d.]+)", summary)
    yield "driver", f"{driver}, for CUDA up to {cuda[1] if cuda else 'an unknown version'}"


def _framework(package: str) -> str:
    if importlib.util.find_spec(package) is None:
        extra = "torch" if package == "torch" else "tensorflow"
        return f"not installed.  Type  pip install 'dlsweep[{extra}]'"
    version = _version(package)
    if package not in _QUESTIONS:
        return version
    answer = _output([sys.executable, "-c", _QUESTIONS[package]])
    if answer is None:
        return f"{version}, which cannot be imported: try  python -c 'import {package}'"
    cuda, gpus = json.loads(answer.splitlines()[-1])
    built = f"built for CUDA {cuda}" if cuda else "built without CUDA"
    return f"{version}, {built}; sees {', '.join(gpus) or 'no GPU'}"


def _version(package: str) -> str:
    """Returns a package's version, from any distribution that has it (such as tensorflow-cpu)."""
    names = importlib.metadata.packages_distributions().get(package, [package])
    return importlib.metadata.version(names[0])


def _sweep() -> str:
    try:
        slots = cut_slots()
    except DlsweepError as error:
        return f"cannot start: {error}"
    one = slots[0]
    gpus = ", ".join(f"GPU {' and '.join(slot.gpus)}" for slot in slots if slot.gpus)
    most = len(shared(slots, "auto"))
    at_once = f"up to {most} trials at a time, as soon as it is known that their memory fits\n"
    return (
        f"{_count(len(slots), 'slot')} of {_count(one.threads, 'thread')} each, "
        f"{gpus or 'no GPU'}\n{at_once if gpus and most > len(slots) else ''}"
        "change it with  launcher.cpus_per_trial=… launcher.gpus_per_trial=…"
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _output(command: list[str]) -> str | None:
    """Returns a command's output, or None if it fails or does not end."""
    try:
        done = subprocess.run(  # noqa: S603 - commands of this module
            command, capture_output=True, text=True, timeout=_PATIENCE, check=False
        )
    except subprocess.TimeoutExpired:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
