"""Trainings that have memory of their GPU; see gpus.c."""

import os
import time
from pathlib import Path


def gpu():
    return os.environ["CUDA_VISIBLE_DEVICES"]


def others():
    found = [int(file.name) for file in (Path(os.environ["FAKE_GPUS"]) / gpu()).iterdir()]
    return [pid for pid in found if pid != os.getpid() and Path(f"/proc/{pid}").exists()]


def train(run, cfg):
    run.set_user_attr("began", time.time())
    place = Path(os.environ["FAKE_GPUS"]) / gpu()
    place.mkdir(exist_ok=True)
    (place / str(os.getpid())).write_text(str(round(cfg.training.gigabytes * 1e9)))
    time.sleep(cfg.training.seconds)
    run.set_user_attr("gpu", gpu())
    run.set_user_attr("threads", int(os.environ["DLSWEEP_THREADS"]))
    run.set_user_attr("bytes", round(cfg.training.gigabytes * 1e9))
    run.set_user_attr("ended", time.time())
    return {"val/loss": cfg.training.x}


def train_alone(run, cfg):
    mine = Path(os.environ["FAKE_GPUS"]) / gpu() / str(os.getpid())
    mine.parent.mkdir(exist_ok=True)
    mine.touch()  # before it looks: of two that come at once, one sees the other
    if others():
        mine.unlink()
        raise MemoryError("CUDA out of memory")
    return train(run, cfg)
