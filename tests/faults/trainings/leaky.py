"""A training that leaves as much behind as it can, and says what it found."""

import os
import resource
import signal
import subprocess
import sys
import threading
import time


def train(run, cfg):
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 4096
    found = {
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
        "handlers": sum(signal.getsignal(n) not in (0, 1) for n in (signal.SIGUSR2, signal.SIGHUP)),
        "environment": len(os.environ),
        "folder": os.getcwd() == "/",
        "modules": "colorsys" in sys.modules,
        "memory": memory,
    }
    import colorsys  # noqa: F401

    os.environ["LEAKED"] = "1"
    os.chdir("/")
    signal.signal(signal.SIGUSR2, lambda *_: None)
    train.kept = [os.open("/dev/null", 0) for _ in range(50)] + [bytearray(30 << 20)]
    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
    subprocess.Popen(["sleep", "654321"])
    return {"val/loss": 1.0, **found}
