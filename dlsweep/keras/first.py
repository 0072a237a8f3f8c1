"""Imports Keras, and its backend with it, before any other module here does."""

from dlsweep.machine.remarks import without_remarks

with without_remarks():
    import keras  # noqa: F401
