"""Data sets without any framework: MNIST, image folders, tables, and how trainers get data."""

from dlsweep.data.augmentation import Augmentation
from dlsweep.data.base import Data, Split
from dlsweep.data.digits import fashion_mnist, mnist
from dlsweep.data.image_folder import image_folder
from dlsweep.data.loader import Loader
from dlsweep.data.table import table

__all__ = [
    "Augmentation",
    "Data",
    "Loader",
    "Split",
    "fashion_mnist",
    "image_folder",
    "mnist",
    "table",
]
