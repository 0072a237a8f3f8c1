"""The MLflow tracker: runs, metrics, artifacts, the report and registered models."""

from dlsweep.trackers.mlflow.tracker import MLflowTracker

__all__ = ["MLflowTracker"]
