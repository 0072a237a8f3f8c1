"""A training that moves into a group of processes with little memory, and takes much."""

import os
from pathlib import Path


def train(run, cfg):
    if cfg.training.x == 1:
        Path(os.environ["MEMORY_GROUP"], "cgroup.procs").write_text(str(os.getpid()))
        kept = []
        while True:
            kept.append(bytearray(os.urandom(1 << 20)))
    return {"val/loss": 1.0}
