"""The W&B tracker: offline files, or runs on the W&B server."""

from dlsweep.trackers.wandb.tracker import WandbTracker

__all__ = ["WandbTracker"]
