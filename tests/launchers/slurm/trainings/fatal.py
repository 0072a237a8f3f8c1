"""A training that has its own job killed, if its x is 0."""

import os
import subprocess
import time


def train(run, cfg):
    if cfg.training.x == 0:
        subprocess.run(["scancel", "--signal=KILL", os.environ["SLURM_JOB_ID"]], check=True)
        time.sleep(600)
    return {"val/loss": float(cfg.training.x)}
