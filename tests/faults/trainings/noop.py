"""A training that does nothing but say what its process, which may be the driver's, has used."""

import resource
import time
from pathlib import Path


def train(run, cfg):
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "val/loss": cfg.training.x**2,
        "seconds": time.process_time(),
        "memory": pages * resource.getpagesize(),
    }
