"""Distributed training with PyTorch: each process has a device and a share of each batch.

The loss and every metric are those of the whole batch, so the number of processes changes a
training only by rounding errors. An exception is dropout and other random numbers, which each
process draws for itself.
"""

from __future__ import annotations

import contextlib
import io
import os
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any, TypeVar, cast

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from dlsweep.run.run import Run
from dlsweep.torch.batch_norm import synchronised
from dlsweep.torch.loader import Part

T = TypeVar("T")
Step = Callable[[nn.Module, Any], Any]

#: How long a process waits for another one that saves or reads data.
_PATIENCE = timedelta(minutes=10)


class Alone:
    """Training in one process; the base class of the distributed strategies.

    Attributes:
        part: The process's part of each batch.
        shards: Whether each process holds only a part of the model.
    """

    part = Part()
    shards = False

    def place(self, model: nn.Module) -> nn.Module:
        """Prepares a model, before its optimizer is built."""
        return model

    def shard(self, *models: nn.Module) -> None:
        """Shards the models over the processes, if the strategy does."""

    def training_step(self, step: Step, model: nn.Module) -> Callable[[Any], Any]:
        """Returns the step as a function of the batch; its backward pass sums all gradients."""
        return lambda batch: step(model, batch)

    def is_last(self, is_last: bool) -> AbstractContextManager[Any]:  # noqa: ARG002
        """A context for one batch: whether the optimizer steps after it, with all gradients."""
        return contextlib.nullcontext()

    def seed(self, seed: int) -> None:
        """Seeds each process differently."""

    def sum(self, values: list[float]) -> list[float]:
        """Returns the sums over all processes."""
        return values

    def gathered(self, value: T) -> list[T]:
        """Returns the values of all processes, by rank."""
        return [value]

    def whole(self, state: T) -> T:
        """Gathers the shards of a state dict; the result is for rank 0 only."""
        return state

    def parted(self, state: T, like: object) -> T:  # noqa: ARG002
        """Shards a state dict for this process; the reverse of :meth:`whole`."""
        return state


ALONE = Alone()


class DataParallel(Alone):
    """Data parallel training: each process holds the whole model, with DistributedDataParallel.

    Li et al., PyTorch Distributed: Experiences on accelerating data parallel training, 2020.

    Args:
        run: The run, with its ranks.
        device: The device of this process.
    """

    def __init__(self, run: Run, device: torch.device) -> None:
        self.part = Part(run.ranks.rank, run.ranks.size)
        self.device = device
        if sys.platform == "linux":  # on one node, local connections only
            for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
                os.environ.setdefault(name, run.ranks.interface)
        assert run.ranks.folder is not None
        store = dist.FileStore(str(run.ranks.folder / "store"), run.ranks.size)  # type: ignore[attr-defined]
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(
            backend, store=store, rank=self.part.rank, world_size=self.part.ranks, timeout=_PATIENCE
        )
        self._on_cpu = dist.new_group(backend="gloo")

    def place(self, model: nn.Module) -> nn.Module:
        """Makes batch norm use the statistics of whole batches."""
        return synchronised(model, self.device, self._on_cpu)

    def training_step(self, step: Step, model: nn.Module) -> Callable[[Any], Any]:
        """Returns the step as a module's forward pass, so that it may use the model in any way."""
        self._wrapped = DistributedDataParallel(_Stepping(step, model))
        return self._wrapped

    def is_last(self, is_last: bool) -> AbstractContextManager[Any]:
        """Sums gradients within the process until the last batch of a step."""
        assert self._wrapped is not None
        return contextlib.nullcontext() if is_last else self._wrapped.no_sync()

    def seed(self, seed: int) -> None:
        """Seeds each process; rank 0 draws the numbers that a single process would draw."""
        if self.part.rank:
            mixed = int(np.random.SeedSequence((seed, self.part.rank)).generate_state(1)[0])
            random.seed(mixed)
            np.random.seed(mixed)
            torch.manual_seed(mixed)

    def sum(self, values: list[float]) -> list[float]:
        """Returns the sums over all processes, with the same bits in each."""
        total = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(total, group=self._on_cpu)
        return cast(list[float], total.tolist())

    def gathered(self, value: T) -> list[T]:
        """Returns the values of all processes by rank.

        PyTorch's own way would pickle them, so that whoever reaches its port could run code.

        Args:
            value: Tensors and plain values.
        """
        file = io.BytesIO()
        torch.save(value, file)
        mine = torch.frombuffer(file.getbuffer(), dtype=torch.uint8)
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.part.ranks)]
        dist.all_gather(sizes, torch.tensor([len(mine)]), group=self._on_cpu)
        most = max(int(size) for size in sizes)
        parts = [torch.zeros(most, dtype=torch.uint8) for _ in sizes]
        padded = functional.pad(mine, (0, most - len(mine)))
        dist.all_gather(parts, padded, group=self._on_cpu)
        found = (part[: int(size)] for part, size in zip(parts, sizes, strict=True))
        return [torch.load(io.BytesIO(part.numpy().tobytes()), weights_only=True) for part in found]


class FullySharded(DataParallel):
    """Fully sharded training (FSDP): each process holds a part of every parameter.

    Zhao et al., PyTorch FSDP: Experiences on scaling fully sharded data parallel, 2023. Modules in
    an ``nn.Sequential`` or ``nn.ModuleList`` are fetched one by one.
    """

    shards = True

    def shard(self, *models: nn.Module) -> None:
        """Shards the models over the processes."""
        mesh = init_device_mesh(self.device.type, (self.part.ranks,))
        for model in models:
            for block in _blocks(model):
                fully_shard(block, mesh=mesh)
            fully_shard(model, mesh=mesh)

    def training_step(self, step: Step, model: nn.Module) -> Callable[[Any], Any]:
        """Returns the step; FSDP's hooks in the model handle the gradients."""
        assert isinstance(model, FSDPModule)
        self._model = model
        return lambda batch: step(model, batch)

    def is_last(self, is_last: bool) -> AbstractContextManager[Any]:
        """Sums gradients within the process until the last batch of a step."""
        self._model.set_requires_gradient_sync(is_last)
        return contextlib.nullcontext()

    def whole(self, state: T) -> T:
        """Gathers all shards of a state dict."""
        return cast(T, _mapped(lambda one: one.full_tensor().cpu(), state))

    def parted(self, state: T, like: object) -> T:
        """Takes this process's shards of a state dict, placed like another one."""
        if isinstance(like, Optimizer):
            return cast(T, _parted_steps(cast(dict[str, Any], state), like))
        return cast(T, _parted(state, like.state_dict() if isinstance(like, nn.Module) else like))


def parallel(run: Run, strategy: str, device: torch.device) -> Alone:
    """Returns the strategy object for a run's processes."""
    if run.ranks.size == 1:
        return Alone()
    return (FullySharded if strategy == "fsdp" else DataParallel)(run, device)


class _Stepping(nn.Module):
    """A training step as a module."""

    def __init__(self, step: Step, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self._step = step

    def forward(self, batch: Any) -> Any:
        return self._step(self.model, batch)


def _blocks(model: nn.Module) -> Iterator[nn.Module]:
    for child in model.children():
        if isinstance(child, (nn.Sequential, nn.ModuleList)):
            yield from (block for block in child if any(True for _ in block.parameters()))
        else:
            yield from _blocks(child)


def _mapped(change: Callable[[DTensor], Tensor], state: Any) -> Any:
    """Applies a function to each sharded tensor in a state."""
    if isinstance(state, DTensor):
        return change(state)
    if isinstance(state, Mapping):
        return {name: _mapped(change, value) for name, value in state.items()}
    if isinstance(state, (list, tuple)):
        return type(state)(_mapped(change, value) for value in state)
    return state


def _parted(state: Any, like: Any) -> Any:
    if isinstance(like, DTensor):
        here = state.to(like.device)
        return distribute_tensor(here, like.device_mesh, like.placements, src_data_rank=None)
    if isinstance(state, Mapping):
        return {name: _parted(value, like.get(name)) for name, value in state.items()}
    return state


def _parted_steps(state: dict[str, Any], optimizer: Optimizer) -> dict[str, Any]:
    """Shards an optimizer's state of each parameter like the parameter."""
    parameters = [one for group in optimizer.param_groups for one in group["params"]]
    steps = {
        number: {
            name: _parted(value, parameters[number])
            if isinstance(value, Tensor) and value.shape == parameters[number].shape
            else value
            for name, value in known.items()
        }
        for number, known in state["state"].items()
    }
    return {**state, "state": steps}
