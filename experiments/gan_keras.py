"""The GAN of ``gan_torch.py`` in Keras on TensorFlow: two networks with an optimizer each.

Everything random depends only on the seed and the step, so a resumed run goes on to the bit.
"""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from omegaconf import DictConfig

from dlsweep import Run

_LATENT, _STATE = 8, "gan.npz"


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
    optimizers = (
        _adam(generator, options.generator_lr),
        _adam(discriminator, options.discriminator_lr),
    )
    parts = (generator, discriminator, *optimizers)
    variables = {f"{n}": one for n, one in enumerate(v for part in parts for v in part.variables)}
    done = 0
    if checkpoint := run.checkpoints.latest():
        done = checkpoint.step
        with np.load(checkpoint.path / _STATE) as saved:
            for name, variable in variables.items():
                variable.assign(saved[name])
    step = tf.function(_step)
    for epoch in range(done + 1, options.epochs + 1):
        losses = [
            step(generator, discriminator, optimizers, options.batch_size, _key(cfg, epoch, turn))
            for turn in range(options.steps)
        ]
        first, second = np.mean(losses, axis=0).tolist()
        metrics = {
            "train/generator_loss": first,
            "train/discriminator_loss": second,
            "val/distance": _distance(generator, _key(cfg, 0, 0)),
        }
        run.log(metrics, step=epoch)
        state = {name: np.asarray(variable) for name, variable in variables.items()}
        run.checkpoints.save(epoch, lambda to, now=state: np.savez(to / _STATE, **now), metrics)
        if run.should_stop:
            break
    return run.checkpoints.need_best().metrics


def _network(inputs: int, width: int, outputs: int) -> keras.Model:
    hidden = [keras.layers.Dense(width, "relu") for _ in range(2)]
    return keras.Sequential([keras.Input([inputs]), *hidden, keras.layers.Dense(outputs)])


def _adam(network: keras.Model, lr: float) -> keras.Optimizer:
    optimizer = keras.optimizers.Adam(lr, beta_1=0.5, beta_2=0.999)
    optimizer.build(network.trainable_variables)
    return optimizer


def _key(cfg: DictConfig, epoch: int, turn: int) -> tf.Tensor:
    """The seed of what is random in one step."""
    return tf.constant([1000 * cfg.seed + epoch, turn])


def _step(
    generator: keras.Model, discriminator: keras.Model, optimizers: Any, count: int, key: tf.Tensor
) -> tf.Tensor:
    """Trains both networks on a batch; returns the losses of generator and discriminator."""
    real, latent = _ring(count, key), _normal([count, _LATENT], key + 1)
    with tf.GradientTape() as tape:
        scores = discriminator(tf.concat([real, generator(latent)], 0))[:, 0]
        against = _loss(scores, tf.cast(tf.range(2 * count) < count, tf.float32))
    _follow(optimizers[1], discriminator, tape.gradient(against, discriminator.trainable_weights))
    with tf.GradientTape() as tape:
        loss = _loss(discriminator(generator(latent))[:, 0], tf.ones(count))
    _follow(optimizers[0], generator, tape.gradient(loss, generator.trainable_weights))
    return tf.stack([loss, against])


def _loss(scores: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels, scores))


def _follow(optimizer: keras.Optimizer, network: keras.Model, gradients: list[tf.Tensor]) -> None:
    optimizer.apply(gradients, network.trainable_weights)


def _normal(shape: list[int], key: tf.Tensor) -> tf.Tensor:
    return tf.random.stateless_normal(shape, key)


def _ring(count: int, key: tf.Tensor) -> tf.Tensor:
    """Draws points [count, 2] around a circle of radius 2."""
    angles = 2 * math.pi * tf.random.stateless_uniform([count], key)
    circle = 2 * tf.stack([tf.cos(angles), tf.sin(angles)], 1)
    return circle + 0.1 * _normal([count, 2], key + 2)


def _distance(generator: keras.Model, key: tf.Tensor, count: int = 500) -> float:
    """Returns the energy distance of made points from real ones (Székely and Rizzo, 2013)."""
    real, made = _ring(count, key), generator(_normal([count, _LATENT], key + 1))
    across, within, among = (
        float(tf.reduce_mean(tf.norm(one[:, None] - other[None], axis=-1)))
        for one, other in ((real, made), (real, real), (made, made))
    )
    return 2 * across - within - among
