"""The file formats of Keras models: ``.keras`` and ``.weights.h5``."""

from __future__ import annotations

from pathlib import Path

import keras

from dlsweep.errors import ConfigError


def write_keras(model: keras.Model, path: Path) -> None:
    """Writes a ``.keras`` file.

    Raises:
        ConfigError: If a class of the model has no ``get_config``.
    """
    try:
        model.save(path)
    except (NotImplementedError, TypeError, ValueError) as error:  # from a layer without get_config
        reason = " ".join(str(error).partition("Example:")[0].split())
        raise ConfigError(
            f"The model {model.name!r} cannot be written with its architecture: {reason}\n"
            "Expected classes with get_config. Or save only the weights, to a .weights.h5 file."
        ) from None


def _write_weights(model: keras.Model, path: Path) -> None:
    model.save_weights(path)


FORMATS = {".keras": write_keras, ".weights.h5": _write_weights}
