"""PyTorch: the trainer, the models that ship, data loading, saving and multi-GPU training."""

from dlsweep.torch.models import CNN, MLP, ResNet, TwoBranches
from dlsweep.torch.trainer import TorchTrainer, setup

__all__ = ["CNN", "MLP", "ResNet", "TorchTrainer", "TwoBranches", "setup"]
