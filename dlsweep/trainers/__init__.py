"""What trainers of all frameworks share: the interface, callbacks, early stopping, schedules."""

from dlsweep.trainers.base import Trainer
from dlsweep.trainers.callbacks import Callback
from dlsweep.trainers.early_stopping import EarlyStopping
from dlsweep.trainers.histograms import Histograms
from dlsweep.trainers.schedules import WarmupCosine

__all__ = ["Callback", "EarlyStopping", "Histograms", "Trainer", "WarmupCosine"]
