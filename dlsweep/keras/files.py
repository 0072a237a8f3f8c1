"""The file formats of Keras models: ``.keras``, ``.weights.h5`` and SavedModel."""

from __future__ import annotations

from pathlib import Path

import keras

from dlsweep.errors import ConfigError


def _write_model(model: keras.Model, path: Path) -> None:
    try:
        model.save(path)
    except (NotImplementedError, TypeError, ValueError) as error:  # from a layer without get_config
        raise ConfigError(
            f"The model {model.name!r} cannot be written with its architecture: {error}\n"
            "Expected classes with get_config. Or save only the weights, to a .weights.h5 file."
        ) from None


def _write_weights(model: keras.Model, path: Path) -> None:
    model.save_weights(path)


def _write_saved_model(model: keras.Model, path: Path) -> None:
    if keras.config.backend() != "tensorflow":
        raise ConfigError(
            f"{path.name}: Received no suffix, which means TensorFlow's SavedModel. The run's "
            f"backend is {keras.config.backend()}.\nExpected the suffix .keras or .weights.h5"
        )
    model.export(path, format="tf_saved_model", verbose=False)


FORMATS = {".keras": _write_model, ".weights.h5": _write_weights, "": _write_saved_model}
