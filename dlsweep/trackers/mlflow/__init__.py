"""The MLflow tracker: runs, metrics, artifacts, charts and registered models."""

from dlsweep.trackers.mlflow.tracker import MLflowTracker

__all__ = ["MLflowTracker"]
