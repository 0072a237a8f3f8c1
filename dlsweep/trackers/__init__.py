"""Trackers: MLflow, W&B, TensorBoard and CSV, each a view of the run folders."""

from dlsweep.trackers.base import Tracker

__all__ = ["Tracker"]
