"""Sentences of unequal length as padded arrays, for a model with an embedding and a mask."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dlsweep.data import Data, Split

#: The token that fills up short sentences; the model's mask leaves it out.
PADDING = 0


def draw(
    examples: int, vocabulary: int, longest: int, seed: int
) -> tuple[list[NDArray[np.int64]], NDArray[np.int64]]:
    """Draws sentences of two classes; a sentence of class 1 has more tokens of the upper half.

    Args:
        examples: The number of sentences.
        vocabulary: The number of tokens, padding included.
        longest: The tokens of the longest sentence; the shortest has 3.
        seed: The seed of all random numbers.

    Returns:
        Sentences of 3 to ``longest`` tokens, and the class of each, shape [examples].
    """
    random = np.random.default_rng(seed)
    lengths = random.integers(3, longest + 1, examples)
    sentences = [random.integers(1, vocabulary, length) for length in lengths]
    labels = [np.mean(tokens > vocabulary / 2) > 0.5 for tokens in sentences]
    return sentences, np.array(labels, np.int64)


def pad(sentences: list[NDArray[np.int64]], length: int) -> NDArray[np.int64]:
    """Fills up sentences at their ends: shape [sentences, length]."""
    padded = np.full((len(sentences), length), PADDING, np.int64)
    for row, tokens in zip(padded, sentences, strict=True):
        row[: len(tokens)] = tokens
    return padded


def sentences(
    examples: int = 3000, vocabulary: int = 200, longest: int = 20, seed: int = 0
) -> Data:
    """Makes padded sentences in memory, for either framework; a fifth is held out.

    The arguments are those of :func:`draw`.
    """
    drawn, labels = draw(examples, vocabulary, longest, seed)
    tokens, held_out = pad(drawn, longest), examples // 5
    train = Split(tokens[held_out:], labels[held_out:])
    return Data(train, Split(tokens[:held_out], labels[:held_out]), record={"name": "text"})
