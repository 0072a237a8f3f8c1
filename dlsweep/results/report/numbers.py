"""Numbers of a folder that anybody may have made, as the page can hold them."""

from __future__ import annotations

import math
from typing import Any


def finite(value: Any) -> float | None:
    """Returns a real, finite number; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def rounded(value: Any) -> float | None:
    """Returns a number with six digits, as the page shows it; None for NaN and infinity."""
    number = finite(value)
    if number is None:
        return None
    short = float(f"{number:.6g}")
    return int(short) if short.is_integer() and abs(short) < 1e15 else short
