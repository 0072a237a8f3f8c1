"""Keras: the trainer, the models that ship, data loading, saving and multi-GPU training."""

import dlsweep.keras.first  # noqa: F401  # isort: split
from dlsweep.keras.batches import KerasData
from dlsweep.keras.models import CNN, MLP, ResNet, TwoBranches
from dlsweep.keras.trainer import KerasTrainer, setup
from dlsweep.trainers.epochs import Epochs

__all__ = ["CNN", "MLP", "Epochs", "KerasData", "KerasTrainer", "ResNet", "TwoBranches", "setup"]
