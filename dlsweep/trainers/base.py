"""The interface of a trainer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from dlsweep.data.base import Split
from dlsweep.errors import ConfigError
from dlsweep.run.run import Run

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from dlsweep.trainers.exporting import ExportSpec


class Trainer(ABC):
    """Trains a model; configured as ``training._target_``.

    The keys of the ``training`` group are the arguments of ``__init__``. They are checked against
    its annotations before a sweep starts.

    Attributes:
        model_kind: The type that ``model`` in the config must build, set by the class that defines
            ``build_model``; None for any type.
        export_environments: The formats of :meth:`export_model`, and for each the environment
            variables that a process needs to write it: ``KERAS_BACKEND`` with the package.
    """

    model_kind: ClassVar[type | None] = None
    export_environments: ClassVar[Mapping[str, Mapping[str, str]]] = {}

    @classmethod
    def process_count(cls, arguments: Mapping[str, Any]) -> int:  # noqa: ARG003
        """Returns the number of processes for these arguments; each calls :meth:`fit`."""
        return 1

    @abstractmethod
    def fit(self, run: Run) -> dict[str, float]:
        """Trains, from ``run.checkpoints.latest()`` if there is one.

        Args:
            run: The run to log and save with; when ``run.should_stop`` is true, save and return.

        Returns:
            The metrics of the saved model by name, including the sweep's objective.

        Raises:
            Diverged: If the loss or the objective becomes NaN or infinite.
        """

    def preflight(self) -> None:  # noqa: B027 - most trainers read nothing before they train
        """Checks what a new run needs, before a run or a sweep starts.

        Raises:
            DlsweepError: If something is missing.
        """

    def check_data(self, data: object) -> None:  # noqa: B027 - most trainers take any
        """Checks what ``data`` in the config has built, before a run or a sweep starts.

        Raises:
            DlsweepError: If this trainer cannot train on it.
        """

    def check_model(self, config: DictConfig, data: object) -> None:  # noqa: B027 - as above
        """Checks the model of a config, before a run or a sweep starts.

        Args:
            config: The run's config, whose model fits the data.
            data: What ``data`` in the config has built.

        Raises:
            DlsweepError: If this trainer cannot train it as the config says.
        """

    def weight_shapes(self, config: DictConfig, data: object) -> Mapping[str, list[int]]:  # noqa: ARG002
        """Returns the shape of each weight of a config's model; none if that is not known.

        Args:
            config: The run's config, whose model fits the data.
            data: What ``data`` in the config has built.
        """
        return {}

    def load_model(self, run: Run) -> Any:
        """Loads the trained model of a run, with the weights of its best checkpoint.

        Args:
            run: The run; its config defines the model.

        Raises:
            ConfigError: If this trainer does not support it.
            CheckpointError: If there is no checkpoint, or none that fits.
        """
        raise ConfigError(
            f"{type(self).__qualname__} cannot load its models.\n"
            f"Override load_model in it, and read {run.dir.checkpoints}"
        )

    def predict(self, model: Any, inputs: Any) -> Any:  # noqa: ARG002
        """Returns the outputs of a model from :meth:`load_model`.

        Args:
            model: The model.
            inputs: A normalized array of shape [examples, ...], or several by name.

        Returns:
            The outputs: an array, or several by name.

        Raises:
            ConfigError: If this trainer does not support it.
        """
        raise ConfigError(
            f"{type(self).__qualname__} cannot predict with its models.\n"
            "Override predict in it, and call the model."
        )

    def save_model(self, run: Run, path: Path) -> None:
        """Saves the model of :meth:`load_model` to a file, in the format of its suffix.

        Raises:
            ConfigError: If this trainer does not support it, or the file exists.
            CheckpointError: If there is no checkpoint, or none that fits.
        """
        raise ConfigError(
            f"{type(self).__qualname__} cannot save its models.\n"
            f"Override save_model in it, and write the checkpoint in {run.dir.checkpoints} to "
            f"{path}"
        )

    def export_model(self, model: Any, form: str, spec: ExportSpec, path: Path) -> None:
        """Writes a model for other runtimes, with the normalization of its inputs.

        Args:
            model: The model, from :meth:`load_model`.
            form: One of :attr:`export_environments`.
            spec: What the exported model takes and returns.
            path: The new file, or the new folder of a SavedModel.

        Raises:
            ConfigError: If the model cannot be exported.
        """
        raise ConfigError(
            f"{type(self).__qualname__} cannot export its models to {form}.\n"
            f"Override export_model in it, and write the {type(model).__qualname__} "
            f"with the inputs {', '.join(spec.arguments)} to {path}"
        )

    def examples(self, data: object, part: Literal["train", "validation"], most: int) -> Split:
        """Reads examples of a data set that is not in memory, as the model takes them.

        Args:
            data: What ``data`` in the config builds.
            part: The part of the data set.
            most: The largest number of examples.

        Raises:
            ConfigError: If this trainer does not support it.
            DataError: If a batch is not a pair of inputs and targets.
        """
        raise ConfigError(
            f"{type(self).__qualname__} cannot read the {part} data of {type(data).__qualname__} "
            f"for an export.\nOverride examples in it, and return at most {most} of them."
        )
