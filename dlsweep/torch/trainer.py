"""The PyTorch trainer: a textbook training loop with bit-exact resume.

To change the training, subclass :class:`TorchTrainer` and override ``training_step`` (and, if
validation differs, ``validation_step``), ``build_model`` or ``build_data``. Then set the class as
``training._target_`` in the config.
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.lr_scheduler import ReduceLROnPlateau

from dlsweep.data.base import Array, Split, each
from dlsweep.errors import ConfigError, DataError
from dlsweep.run.run import Run
from dlsweep.torch.batches import Batches, TorchData, one_batch, prepare
from dlsweep.torch.export import WRITERS
from dlsweep.torch.files import FORMATS
from dlsweep.torch.means import Means, Measures, r2_terms
from dlsweep.torch.parallel import Alone, parallel
from dlsweep.torch.param_groups import freeze, optimizer_for, training_mode
from dlsweep.torch.profiler import Profiler
from dlsweep.torch.shares import Share, shares
from dlsweep.torch.state import STATE, TorchState, load_weights, weight_average
from dlsweep.torch.units import InOwnUnits
from dlsweep.trainers.callbacks import Callback, Callbacks
from dlsweep.trainers.config import built, target_scale
from dlsweep.trainers.early_stopping import Progress
from dlsweep.trainers.epoch_trainer import EpochTrainer
from dlsweep.trainers.epochs import Epochs
from dlsweep.trainers.exporting import ExportSpec, gather
from dlsweep.trainers.model_files import write_model
from dlsweep.trainers.predictions import Outcome
from dlsweep.trainers.saving import MidEpoch

Loss = Callable[[Tensor, Tensor], Tensor]

_DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def setup(
    seed: int, deterministic: bool = False, threads: int | None = None, debug: bool = False
) -> None:
    """Sets up a trial's process: seeds, deterministic kernels, threads, anomaly detection.

    Args:
        seed: The seed of Python's, NumPy's and PyTorch's random numbers.
        deterministic: Whether to use only deterministic kernels; an operation without one raises.
        threads: The number of CPU threads of an operation; None leaves that to PyTorch.
        debug: Whether a NaN gradient raises an error that names its operation.

    Raises:
        ConfigError: If the seed is out of range.
    """
    if not 0 <= seed < 2**32:
        raise ConfigError(f"seed: Received {seed}. Expected a whole number from 0 to 2**32 - 1.")
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    if threads is not None:
        torch.set_num_threads(threads)
    if deterministic:
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # read when CUDA starts
        torch.use_deterministic_algorithms(True)
    torch.autograd.set_detect_anomaly(debug)


class TorchTrainer(EpochTrainer):
    """Trains the model and data of the config with PyTorch.

    The arguments are those of :class:`EpochTrainer`. ``loss`` may be any callable of outputs and
    targets that averages over the batch.
    """

    strategies = ("data_parallel", "fsdp")
    forks = True
    state_file = STATE
    model_kind = nn.Module
    export_environments = dict.fromkeys(WRITERS, MappingProxyType({}))
    _target_std: Tensor | float = 1.0

    def _check_arguments(self) -> None:
        super()._check_arguments()
        if (self.strategy, self.precision) == ("fsdp", "fp16"):
            raise ConfigError(
                "training.precision: Received 'fp16' with training.strategy=fsdp, which has no "
                "loss scaling.\nExpected 'bf16' or 'fp32'. Type  training.precision=bf16"
            )

    @cached_property
    def criterion(self) -> Loss:
        """The loss as a callable."""
        return _LOSSES[self.loss] if isinstance(self.loss, str) else self.loss

    @property
    def is_classifier(self) -> bool:
        """Whether the outputs are one logit for each class; unknown if a step is overridden."""
        steps = type(self).training_step, type(self).validation_step
        is_ours = steps == (TorchTrainer.training_step, TorchTrainer.validation_step)
        return is_ours and super().is_classifier

    def build_model(self, run: Run) -> nn.Module:
        """Builds the model; by default from ``model`` in the config."""
        return built(run.config, "model", nn.Module)

    def parameter_shapes(self, model: nn.Module, data: object) -> dict[str, list[int]]:  # noqa: ARG002
        """Returns the shapes of a model's parameters by name."""
        return {name: list(one.shape) for name, one in model.named_parameters()}

    def load_model(self, run: Run) -> nn.Module:
        """Loads a run's trained model on the CPU, in evaluation mode, with its best weights.

        A model of standardized targets is wrapped: its outputs are in the targets' own units.
        """
        model = self.build_model(run)
        load_weights(model, run.checkpoints.need_best())
        scale = target_scale(run)
        return (InOwnUnits(model, *scale) if scale else model).eval()

    @torch.no_grad()
    def predict(self, model: nn.Module, inputs: Any) -> Any:
        """Returns a model's outputs as arrays, for inputs as arrays."""
        return each(model(each(inputs, torch.from_numpy)), _array)

    def save_model(self, run: Run, path: Path) -> None:
        """Saves the trained model's weights as a state dict (``.pt``) or as ``.safetensors``."""
        write_model(lambda: self.load_model(run), path, FORMATS)

    def export_model(self, model: nn.Module, form: str, spec: ExportSpec, path: Path) -> None:
        """Writes the model as ``onnx`` or as a ``torch.export`` program (``torch``)."""
        WRITERS[form](model, spec, path)

    def examples(self, data: object, part: Literal["train", "validation"], most: int) -> Split:
        """Reads examples of a Dataset or a DataLoader."""
        made = prepare(data, self.batch_size, self.seed, torch.device("cpu"), self.loader)
        batches: Batches = getattr(made, part)
        return gather((_as_arrays(batch) for batch in batches.epoch(1)), most)

    def training_step(self, model: nn.Module, batch: Any) -> Measures:
        """Computes the loss and metrics of a training batch.

        Args:
            model: The model in training mode.
            batch: A batch on the device; by default a pair (inputs, targets).

        Returns:
            Scalars by name, each a mean over the batch: ``loss``, which is minimized, and other
            metrics; and, for R², :func:`dlsweep.torch.means.r2_terms`. Their means over an epoch
            are logged as ``train/<name>``.
        """
        inputs, targets = batch
        outputs = model(inputs)
        try:
            measures = {"loss": self.criterion(outputs, targets)}
        except IndexError as error:  # from cross entropy
            raise DataError(f"targets: {error} The model has {outputs.shape[1]} classes.") from None
        if self.criterion is functional.cross_entropy:
            measures["accuracy"] = (outputs.argmax(1) == targets).double().mean()
        elif self.criterion is _mean_squared_error:
            errors = outputs.detach().float() - targets
            measures["mae"] = (errors.abs() * self._target_std).mean()
            if targets.ndim <= 2:
                measures["r2"] = r2_terms(outputs, targets)
        return measures

    def validation_step(self, model: nn.Module, batch: Any) -> Measures:
        """Computes the loss and metrics of a validation batch, in evaluation mode.

        Their means are logged as ``val/<name>``, and at the end on test data as ``test/<name>``.
        """
        return self.training_step(model, batch)

    def fit(self, run: Run) -> dict[str, float]:
        """Trains the model; see :meth:`EpochTrainer.fit`."""
        device = self._device(run.ranks.local_rank)
        self._check_processes(run.ranks.size)
        if isinstance(self.criterion, nn.Module):
            self.criterion.to(device)
        together = parallel(run, self.strategy, device)
        data = self._read_data(
            run,
            lambda found: prepare(found, self.batch_size, self.seed, device, self.loader),
            one_batch,
        )
        self._target_std = torch.from_numpy(data.target_std).to(device)
        model = self.build_model(run).to(device)
        freeze(model, self.parameter_options)
        state = self._start(model, device, together)
        epochs = Epochs(run, self, state)
        state.callbacks.begin(run, state.model)
        training_step = together.training_step(self.training_step, state.model)
        mid_epoch = MidEpoch(run, self.checkpoint_steps, self.checkpoint_seconds)
        for epoch in epochs:
            means = Means("train", together, epochs.progress)
            shared = shares(data.train, epoch, together.part)
            for step in self._train(training_step, state, epochs.progress, means, shared):
                if mid_epoch.is_due(step):
                    means.keep(epochs.progress)
                    epochs.save_part()
                    if run.should_stop:
                        return self._finish(run, epochs, data)
            state.end_batches(epoch)
            metrics = means.read()
            metrics |= self._measure(state.kept, state, epochs.progress, data.validation, "val")
            epochs.end(metrics)
        return self._finish(run, epochs, data)

    def _train(
        self,
        training_step: Callable[[Any], object],
        state: TorchState,
        progress: Progress,
        means: Means,
        batches: Iterator[Share],
    ) -> Iterator[int]:
        """Trains the rest of an epoch; yields the number of finished steps after each."""
        training_mode(state.model, self.parameter_options)
        groups = _groups(batches, self.accumulate)
        state.skip_done(groups, progress.steps)
        for group in groups:
            examples = sum(share.whole for share in group)
            for share in group:
                progress.batches += 1
                state.callbacks.on_train_batch_begin(progress.batches)
                with state.parallel.is_last(share is group[-1]):
                    with state.autocast:
                        measures = _checked(training_step(share.batch))
                    loss = measures["loss"]
                    if (part := state.parallel.part.ranks * share.size) != examples:
                        loss = loss * (part / examples)
                    state.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
                means.add(measures, share.size, progress.batches)
                if share is group[-1]:
                    state.step(self.clip_norm)
                state.callbacks.on_train_batch_end(progress.batches)
            progress.steps += 1
            yield progress.steps

    def _measure(
        self, model: nn.Module, state: TorchState, progress: Progress, batches: Batches, part: str
    ) -> dict[str, float]:
        means = Means(part, state.parallel)
        model.eval()
        with torch.no_grad():
            for share in shares(batches, progress.epoch + 1, state.parallel.part):
                with state.autocast:
                    measures = _checked(self.validation_step(model, share.batch))
                means.add(measures, share.size, progress.batches)
        return means.read()

    def _finish(self, run: Run, epochs: Epochs[TorchState], data: TorchData) -> dict[str, float]:
        """Loads the best weights if configured, and evaluates the test data of an ended run."""
        state, progress = epochs.state, epochs.progress
        metrics = progress.best
        if run.ranks.agree(lambda: run.stop_reason) is None:
            best, last = run.checkpoints.best(), state.kept
            is_in_memory = best and best.step == progress.epoch and not state.average
            if best and self.early_stopping.restore_best_weights and not is_in_memory:
                last = state.model
                state.take_kept(best)
            self._log_predictions(
                run, data, progress.epoch, lambda batches: _predict(last, state, batches)
            )
            if data.test:
                tested = self._measure(last, state, progress, data.test, "test")
                run.log(tested, step=progress.epoch)
                metrics = {**metrics, **tested}
            epochs.settle()
        state.callbacks.on_train_end(metrics)
        return metrics

    @property
    def has_gpu(self) -> bool:
        """Whether there is a GPU to use; see :class:`EpochTrainer`."""
        return self._check_gpu(use_gpu(self.device != "cpu"), "PyTorch")

    def _check_processes(self, count: int) -> None:
        """Raises ConfigError if the trial was started with another number of replicas."""
        if self.replica_count != count:
            raise ConfigError(
                f"training.replicas: Received {self.replica_count}, and the trial has {count} "
                f"process{'es' * (count != 1)}.\nSet it in the config, not in the class:  "
                f"training.replicas={self.replica_count}"
            )

    def _device(self, local_rank: int) -> torch.device:
        if not self.has_gpu:
            return torch.device("cpu")
        torch.cuda.set_device(local_rank)
        return torch.device("cuda", local_rank)

    def _start(self, model: nn.Module, device: torch.device, together: Alone) -> TorchState:
        average = weight_average(model, self.ema_decay, self.swa_start, together.shards)
        model = together.place(model)
        together.shard(*([model, average.module] if average else [model]))
        together.seed(self.seed)
        optimizer = optimizer_for(model, self.optimizer, self.parameter_options)
        scheduler = self.scheduler(optimizer) if self.scheduler else None
        if isinstance(scheduler, ReduceLROnPlateau):
            self._check_scheduler_mode(scheduler.mode)
        dtype = _DTYPES[self.precision]
        traced = [Profiler(*self.traced)] if self.traced else []
        return TorchState(
            device=device,
            model=model,
            optimizer=optimizer,
            scheduler=scheduler,
            scaler=torch.amp.GradScaler(device.type, enabled=self.precision == "fp16"),
            autocast=torch.autocast(device.type, dtype) if dtype else nullcontext(),
            average=average,
            swa_start=self.swa_start,
            callbacks=Callbacks([*self.callbacks, *traced]),
            parallel=together,
        )


@torch.no_grad()
def _predict(model: nn.Module, state: TorchState, batches: Batches) -> Iterator[Outcome]:
    """Yields the model's predictions for each batch."""
    model.eval()
    for inputs, targets in batches.epoch(1):
        with state.autocast:
            outputs = model(inputs)
        yield each(inputs, _array), _array(targets), _array(outputs)


def _array(tensor: Tensor) -> Array:
    return (tensor.float() if tensor.is_floating_point() else tensor).cpu().numpy()


def _as_arrays(batch: Any) -> Any:
    if isinstance(batch, tuple | list):
        return tuple(map(_as_arrays, batch))
    return each(batch, _array)


def _groups(batches: Iterator[Share], size: int) -> Iterator[list[Share]]:
    while group := list(itertools.islice(batches, size)):
        yield group


def _checked(measures: object) -> Measures:
    if isinstance(measures, Mapping) and "loss" in measures:
        return measures
    raise ConfigError(
        f"training_step: Received {type(measures).__qualname__} from it. "
        "Expected a dict of scalar tensors with 'loss' among them."
    )


def _mean_squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    if outputs.shape != targets.shape:
        raise DataError(
            f"training.loss: Received outputs of shape {list(outputs.shape)} and targets of shape "
            f"{list(targets.shape)}. Expected equal shapes for 'mse'."
        )
    return functional.mse_loss(outputs, targets)


_LOSSES: dict[str, Loss] = {
    "cross_entropy": functional.cross_entropy,
    "mse": _mean_squared_error,
}


def use_gpu(wanted: bool) -> bool:
    """Whether there is a GPU to use."""
    return wanted and torch.cuda.is_available()


def profiler(folder: Path, first: int, last: int) -> Callback:  # noqa: ARG001 - Keras's TensorFlow needs it
    """Returns a callback that traces batches; see :class:`Profiler`."""
    return Profiler(first, last)
