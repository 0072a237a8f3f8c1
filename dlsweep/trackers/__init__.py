"""Where records go: one tracker a file, each a view of the run folders."""

from dlsweep.trackers.base import Tracker

__all__ = ["Tracker"]
