"""A PyTorch trainer with its own ``training_step``: mixup, as in keras_train_step."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from dlsweep.torch import Measures, TorchTrainer


class MixupTrainer(TorchTrainer):
    """Trains the model on mixed pairs of examples.

    Zhang, Cisse, Dauphin and Lopez-Paz, mixup: Beyond Empirical Risk Minimization, 2018. The
    arguments are those of :class:`TorchTrainer`.
    """

    #: The largest share of the second example.
    share = 0.5

    def training_step(self, model: nn.Module, batch: Any) -> Measures:
        """Mixes each example of a batch with another, and their losses in the same way."""
        inputs, targets = batch
        share = self.share * torch.rand((), device=inputs.device)
        scores = model(torch.lerp(inputs, inputs.flip(0), share))
        losses = [self.criterion(scores, each) for each in (targets, targets.flip(0))]
        accuracy = (scores.argmax(1) == targets).double().mean()
        return {"loss": torch.lerp(*losses, share), "accuracy": accuracy}

    def validation_step(self, model: nn.Module, batch: Any) -> Measures:
        """Computes loss and accuracy on unmixed examples."""
        return super().training_step(model, batch)
