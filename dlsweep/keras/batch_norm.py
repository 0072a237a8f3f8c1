"""Finds the batch norm layers of a Keras model."""

from __future__ import annotations

import keras


def batch_norms(model: keras.Model) -> list[keras.layers.BatchNormalization]:
    """Returns the batch norm layers of a model, also those in other layers.

    Keras has no public way to them: ``model.layers`` has only the outermost.
    """
    layers = model._flatten_layers()
    return [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]
