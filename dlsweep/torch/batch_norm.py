"""Batch norm: its layers, and a synchronized one for several processes on CPUs.

For GPUs, PyTorch's own is used.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.modules.batchnorm import _BatchNorm  # the base of all three BatchNormNd


def statistics(model: nn.Module) -> Iterator[tuple[nn.Module, list[str]]]:
    """Yields each batch norm layer with the names of its parameters and statistics."""
    for above, layer in model.named_modules():
        if isinstance(layer, _BatchNorm):
            prefix = f"{above}." if above else ""
            kept = {**dict(layer.named_parameters()), **dict(layer.named_buffers())}
            yield layer, [prefix + name for name in kept if name != "num_batches_tracked"]


def synchronised(model: nn.Module, device: torch.device, group: dist.ProcessGroup) -> nn.Module:
    """Makes a model's batch norm use the statistics of all processes in training."""
    if device.type == "cuda":
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        return converted
    for layer in model.modules():
        if isinstance(layer, _BatchNorm):
            layer.__class__ = _WholeBatchNorm
            layer.group = group  # type: ignore[assignment]
    return model


class _WholeBatchNorm(_BatchNorm):
    """Synchronized batch norm, as ``nn.SyncBatchNorm`` on GPUs."""

    group: dist.ProcessGroup

    def _check_input_dim(self, input: Tensor) -> None:
        """Accepts any shape: the layer that it replaces was built for it."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        over = [axis for axis in range(input.dim()) if axis != 1]
        shape = [-1 if axis == 1 else 1 for axis in range(input.dim())]
        values = input.to(torch.promote_types(input.dtype, torch.float32))
        here = values.new_tensor([input.numel() // input.shape[1]])
        total = self._total(torch.cat([values.sum(over), here]))
        mean, count = total[:-1] / total[-1], total[-1]
        centred = values - mean.view(shape)
        variance = self._total(centred.square().sum(over)) / count
        self._follow(mean.detach(), variance.detach() * count / (count - 1))
        normed: Tensor = centred * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            normed = normed * self.weight.view(shape) + self.bias.view(shape)
        return normed.to(input.dtype)

    def _total(self, values: Tensor) -> Tensor:
        total: Tensor = all_reduce(values, group=self.group)  # type: ignore[no-untyped-call]
        return total

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        if not self.track_running_stats:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        momentum = self.momentum
        weight = 1 / float(self.num_batches_tracked) if momentum is None else momentum
        for known, new in ((self.running_mean, mean), (self.running_var, variance)):
            assert known is not None
            known.lerp_(new.to(known.dtype), weight)
