"""Where a trial runs: one launcher a file, all with the interface of ``base``."""

from dlsweep.launchers.base import Job, Judge, Launcher

__all__ = ["Job", "Judge", "Launcher"]
