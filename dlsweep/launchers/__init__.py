"""Launchers: where a trial runs. Each file has one, with the interface of ``base``."""

from dlsweep.launchers.base import Job, Judge, Launcher, environment_of

__all__ = ["Job", "Judge", "Launcher", "environment_of"]
