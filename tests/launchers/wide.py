"""A training that runs out of memory with about half of the widths: those above 30,000."""

import resource
from pathlib import Path


def train(run, cfg):
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * 4096 + 32_000_000, -1))
    run.log({"val/loss": cfg.training.x}, 1)
    weights = b"x" * (1000 * cfg.training.width)
    return {"val/loss": cfg.training.x + 0 * len(weights)}


#: A sweep of it.
SWEEP = (
    *("-m", "training._target_=wide.train", "hydra.sweeper.study_name=wide"),
    *("+training.width=tag(log,int(interval(1000,1000000)))", "hydra.sweeper.seed=1"),
    *("hydra/sweeper/sampler=random", "hydra/sweeper/pruner=none"),
    *("hydra.sweeper.max_failure_rate=1", "hydra.sweeper.n_trials=24"),
)


def check(study: Path, table) -> None:
    """Checks that the points that would not fit were rejected, and no others."""
    widths = {state: table["training.width"][table["state"] == state] for state in table["state"]}
    assert max(widths["completed"]) < 33_000
    assert min(widths["rejected"]) > sorted(widths["out_of_memory"])[1]
    assert len(widths["rejected"]) >= 3
    for number in widths["rejected"].index:
        assert not (study / f"trials/{number:04d}/attempt.json").exists(), "it was launched"
