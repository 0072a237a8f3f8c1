"""The file formats of PyTorch models: ``.pt`` and ``.safetensors``."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from dlsweep.errors import MissingExtraError


def _write_state_dict(model: nn.Module, path: Path) -> None:
    torch.save(model.state_dict(), path)


def _write_safetensors(model: nn.Module, path: Path) -> None:
    try:
        from safetensors.torch import save_model
    except ImportError:
        raise MissingExtraError("safetensors", "A .safetensors file") from None
    save_model(model, str(path))


FORMATS = {".pt": _write_state_dict, ".safetensors": _write_safetensors}
