"""Who trains: a class per framework, and the one interface that a sweep knows."""

from dlsweep.trainers.base import Trainer

__all__ = ["Trainer"]
