"""A Keras text classifier: its embedding makes the mask, and the pooling layer takes it."""

from __future__ import annotations

import keras
from keras import layers


def BagOfWords(  # noqa: N802 - the name in the config, as in experiments.text_torch
    vocabulary: int, classes: int = 2, width: int = 16
) -> keras.Model:
    """The mean of the embeddings of a sentence's tokens, without the padding, and a dense layer.

    Args:
        vocabulary: The number of tokens, padding (token 0) included.
        classes: The number of classes, and of scores.
        width: The width of the embedding.
    """
    return keras.Sequential(
        [
            keras.Input((None,), dtype="int64"),
            layers.Embedding(vocabulary, width, mask_zero=True),
            layers.GlobalAveragePooling1D(),
            layers.Dense(classes),
        ],
        name="bag_of_words",
    )
