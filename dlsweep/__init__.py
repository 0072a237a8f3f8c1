"""dlsweep: hyperparameter sweeps for deep learning that do not wait, lose or miscount.

Hydra composes an experiment, Optuna searches it, PyTorch or Keras trains it. Every metric and
checkpoint is written to the run's own folder and synced to the trackers from there.
"""

from dlsweep.results.frames import load
from dlsweep.results.loading import load_model, save_model
from dlsweep.run.run import Run
from dlsweep.trial.reporting import report, set_user_attr

__all__ = ["Run", "__version__", "load", "load_model", "report", "save_model", "set_user_attr"]
__version__ = "0.2.0"
