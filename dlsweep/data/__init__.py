"""Data for training: what ships, and the one shape in which a data set reaches a trainer."""

from dlsweep.data.base import Data, Split
from dlsweep.data.digits import fashion_mnist, mnist

__all__ = ["Data", "Split", "fashion_mnist", "mnist"]
