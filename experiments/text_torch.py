"""A PyTorch text classifier, and a Dataset whose batches are padded by a collate function."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from experiments.text import PADDING, draw, pad


class BagOfWords(nn.Module):
    """The mean of the embeddings of a sentence's tokens, without the padding, and a linear layer.

    Args:
        vocabulary: The number of tokens, padding included.
        classes: The number of classes, and of scores.
        width: The width of the embedding.
    """

    def __init__(self, vocabulary: int, classes: int = 2, width: int = 16) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width, padding_idx=PADDING)
        self.scores = nn.Linear(width, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Returns scores [batch, classes] for tokens [batch, length]."""
        mask = (tokens != PADDING).unsqueeze(-1)
        mean = (self.embedding(tokens) * mask).sum(1) / mask.sum(1).clamp(min=1)
        scores: Tensor = self.scores(mean)
        return scores


class Sentences(Dataset[tuple[NDArray[np.int64], int]]):
    """Sentences of unequal length with their classes."""

    def __init__(self, sentences: list[NDArray[np.int64]], labels: NDArray[np.int64]) -> None:
        self.sentences = sentences
        self.labels = labels

    def __len__(self) -> int:
        return len(self.sentences)

    def __getitem__(self, number: int) -> tuple[NDArray[np.int64], int]:
        return self.sentences[number], int(self.labels[number])


def collate(examples: list[tuple[NDArray[np.int64], int]]) -> tuple[Tensor, Tensor]:
    """Makes a batch: tokens [batch, length of its longest sentence] and labels [batch]."""
    sentences, labels = zip(*examples, strict=True)
    tokens = pad(list(sentences), max(map(len, sentences)))
    return torch.from_numpy(tokens), torch.tensor(labels)


def loaders(
    examples: int = 3000,
    vocabulary: int = 200,
    longest: int = 20,
    seed: int = 0,
    batch_size: int = 128,
) -> dict[str, DataLoader[tuple[Tensor, Tensor]]]:
    """Makes DataLoaders that pad each batch only as far as it needs; a fifth is held out.

    The arguments are those of :func:`experiments.text.draw`, and the examples in a batch.
    """
    sentences, labels = draw(examples, vocabulary, longest, seed)
    held_out = examples // 5
    train = Sentences(sentences[held_out:], labels[held_out:])
    validation = Sentences(sentences[:held_out], labels[:held_out])
    return {
        "train": DataLoader(train, batch_size, shuffle=True, collate_fn=collate),
        "validation": DataLoader(validation, batch_size, collate_fn=collate),
    }
