"""Two networks with an optimizer each: a GAN that learns points on a ring.

Everything random depends only on the seed and the epoch, so a resumed run goes on to the bit.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from dlsweep import Run

_LATENT, _STATE = 8, "gan.pt"


def train(run: Run, cfg: DictConfig) -> dict[str, float]:
    """Trains a generator against a discriminator; logs how far its points are from the ring's.

    Args:
        run: The run, whose latest checkpoint it starts from.
        cfg: The composed config; ``cfg.training`` has epochs, steps, batch_size, width and the two
            learning rates.

    Returns:
        The best epoch's metrics.
    """
    options = cfg.training
    generator, discriminator = _network(_LATENT, options.width, 2), _network(2, options.width, 1)
    parts: dict[str, Any] = {
        "generator": generator,
        "discriminator": discriminator,
        "generator_optimizer": _adam(generator, options.generator_lr),
        "discriminator_optimizer": _adam(discriminator, options.discriminator_lr),
    }
    done, best = 0, {"val/distance": math.inf}
    if checkpoint := run.checkpoints.latest():
        state = torch.load(checkpoint.path / _STATE, weights_only=True)
        done, best = state["epoch"], state["best"]
        for name, part in parts.items():
            part.load_state_dict(state[name])
    for epoch in range(done + 1, options.epochs + 1):
        random = torch.Generator().manual_seed(1000 * cfg.seed + epoch)
        losses = [_step(parts, options.batch_size, random) for _ in range(options.steps)]
        first, second = torch.stack(losses).mean(0).tolist()
        metrics = {
            "train/generator_loss": first,
            "train/discriminator_loss": second,
            "val/distance": _distance(generator, torch.Generator().manual_seed(cfg.seed)),
        }
        run.log(metrics, step=epoch)
        best = min(best, metrics, key=lambda one: one["val/distance"])
        states = {name: part.state_dict() for name, part in parts.items()}
        state = {"epoch": epoch, "best": best, **states}
        run.checkpoints.save(epoch, lambda to, now=state: torch.save(now, to / _STATE), metrics)
        if run.should_stop:
            break
    return best


def _network(inputs: int, width: int, outputs: int) -> nn.Module:
    hidden = [nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()]
    return nn.Sequential(*hidden, nn.Linear(width, outputs))


def _adam(network: nn.Module, lr: float) -> torch.optim.Optimizer:
    return torch.optim.Adam(network.parameters(), lr, betas=(0.5, 0.999))


def _step(parts: dict[str, Any], count: int, random: torch.Generator) -> Tensor:
    """Trains both networks on a batch; returns the losses of generator and discriminator."""
    generator, discriminator = parts["generator"], parts["discriminator"]
    real, made = _ring(count, random), generator(torch.randn(count, _LATENT, generator=random))
    scores = discriminator(torch.cat([real, made.detach()])).squeeze(1)
    against = binary_cross_entropy_with_logits(scores, (torch.arange(2 * count) < count).float())
    _follow(parts["discriminator_optimizer"], against)
    judged = discriminator(made).squeeze(1)
    loss = binary_cross_entropy_with_logits(judged, torch.ones(count))
    _follow(parts["generator_optimizer"], loss)
    return torch.stack([loss.detach(), against.detach()])


def _follow(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def _ring(count: int, random: torch.Generator) -> Tensor:
    """Draws points [count, 2] around a circle of radius 2."""
    angles = 2 * math.pi * torch.rand(count, generator=random)
    circle = 2 * torch.stack([angles.cos(), angles.sin()], 1)
    return circle + 0.1 * torch.randn(count, 2, generator=random)


@torch.no_grad()
def _distance(generator: nn.Module, random: torch.Generator, count: int = 500) -> float:
    """Returns the energy distance of made points from real ones (Székely and Rizzo, 2013)."""
    real, made = _ring(count, random), generator(torch.randn(count, _LATENT, generator=random))
    across, within, among = (
        torch.cdist(one, other).mean() for one, other in ((real, made), (real, real), (made, made))
    )
    return float(2 * across - within - among)
