"""A PyTorch trainer with a training step of its own: mixup, as in keras_train_step."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from dlsweep.torch.trainer import Measures, TorchTrainer


class MixupTrainer(TorchTrainer):
    """Has the model learn from pairs of examples, mixed.

    Zhang, Cisse, Dauphin and Lopez-Paz, mixup: Beyond Empirical Risk Minimization, 2018. All
    arguments are those of :class:`TorchTrainer`.
    """

    #: How much of the second example is mixed in at most.
    share = 0.5

    def training_step(self, model: nn.Module, batch: Any) -> Measures:
        """Mixes each example of a batch with another, and the losses alike."""
        inputs, targets = batch
        share = self.share * torch.rand((), device=inputs.device)
        scores = model(torch.lerp(inputs, inputs.flip(0), share))
        losses = [self.criterion(scores, each) for each in (targets, targets.flip(0))]
        accuracy = (scores.argmax(1) == targets).double().mean()
        return {"loss": torch.lerp(*losses, share), "accuracy": accuracy}

    def validation_step(self, model: nn.Module, batch: Any) -> Measures:
        """Measures the model on examples as they are."""
        return super().training_step(model, batch)
