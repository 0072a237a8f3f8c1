"""Keras: the trainer, the models that ship, data loading, saving and multi-GPU training."""

from dlsweep.keras.models import CNN, MLP, ResNet, TwoBranches
from dlsweep.keras.trainer import KerasTrainer, setup

__all__ = ["CNN", "MLP", "KerasTrainer", "ResNet", "TwoBranches", "setup"]
