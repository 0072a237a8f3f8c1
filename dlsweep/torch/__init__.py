"""PyTorch: the trainer, the models that ship, data loading, saving and multi-GPU training."""

from dlsweep.torch.means import Measures
from dlsweep.torch.models import CNN, MLP, ResNet, TwoBranches
from dlsweep.torch.trainer import TorchTrainer, setup

__all__ = ["CNN", "MLP", "Measures", "ResNet", "TorchTrainer", "TwoBranches", "setup"]
