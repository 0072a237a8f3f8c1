"""The interface of a trainer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from dlsweep.errors import ConfigError
from dlsweep.run.run import Run


class Trainer(ABC):
    """Trains a model; named in the config as ``training._target_``.

    The keys of the ``training`` group are the arguments of the class's ``__init__``, and are
    checked against its annotations before a sweep starts.

    Attributes:
        model_kind: What ``model`` in the config must make, said by the class whose
            ``build_model`` makes it; None if anything will do.
    """

    model_kind: ClassVar[type | None] = None

    @classmethod
    def process_count(cls, arguments: Mapping[str, Any]) -> int:  # noqa: ARG003
        """How many processes a run with these arguments needs; each of them calls :meth:`fit`."""
        return 1

    @abstractmethod
    def fit(self, run: Run) -> dict[str, float]:
        """Trains, from ``run.checkpoints.latest()`` if there is one.

        Args:
            run: Where to log and save; when ``run.should_stop`` turns true, save and return.

        Returns:
            The metrics of the model that is kept, by name; the sweep's objective among them.

        Raises:
            Diverged: If a value that matters becomes NaN or infinite.
        """

    def preflight(self) -> None:  # noqa: B027 - most trainers read nothing before they train
        """Sees that what a new run needs is there; called before a run or a sweep starts.

        Raises:
            DlsweepError: If it is not.
        """

    def load_model(self, run: Run) -> Any:
        """The trained model of a run, with its best checkpoint's weights, ready to predict.

        Args:
            run: Whose config says how the model is built.

        Raises:
            ConfigError: If this trainer cannot.
            CheckpointError: If there is no checkpoint, or none that fits.
        """
        raise ConfigError(
            f"{type(self).__qualname__} does not say how its models are loaded.\n"
            f"Override load_model in it, and read {run.dir.checkpoints}"
        )

    def predict(self, model: Any, inputs: Any) -> Any:  # noqa: ARG002
        """The outputs of a model that :meth:`load_model` gave.

        Args:
            model: The model.
            inputs: An array of shape [examples, ...], or several by name, normalised.

        Returns:
            The outputs as an array, or as several by name.

        Raises:
            ConfigError: If this trainer cannot.
        """
        raise ConfigError(
            f"{type(self).__qualname__} does not say how its models predict.\n"
            "Override predict in it, and call the model."
        )

    def save_model(self, run: Run, path: Path) -> None:
        """Writes the model that :meth:`load_model` gives to a file, in the format of its suffix.

        Raises:
            ConfigError: If this trainer cannot, or the file exists.
            CheckpointError: If there is no checkpoint, or none that fits.
        """
        raise ConfigError(
            f"{type(self).__qualname__} does not say how its models are saved.\n"
            f"Override save_model in it, and write what {run.dir.checkpoints} holds to {path}"
        )
