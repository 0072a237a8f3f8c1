"""The training functions of the checks; trials of real sweeps call them."""

from __future__ import annotations

import os
import time
from typing import Any


def look(run: Any, cfg: Any) -> dict[str, float]:
    """Computes on the trial's device, and notes what the trial sees."""
    import torch

    run.set_user_attr("began", time.time())
    run.set_user_attr("initialized", torch.cuda.is_initialized())  # by the fork's parent
    run.set_user_attr("visible", os.environ.get("CUDA_VISIBLE_DEVICES", ""))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    total = torch.ones(256, 256, device=device).matmul(torch.ones(256, 256, device=device)).sum()
    time.sleep(cfg.training.seconds)
    run.set_user_attr("gpus", torch.cuda.device_count())
    run.set_user_attr("sum", total.item())
    run.set_user_attr("ended", time.time())
    return {"val/loss": 0.0}


def fill(run: Any, cfg: Any) -> dict[str, float]:
    """Asks for more memory than there is."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.empty(1 << 50, device=device)
    return {"val/loss": 0.0}
