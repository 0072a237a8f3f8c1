"""Imports that cost less than they would by themselves."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def hidden(package: str) -> Iterator[None]:
    """Lets nothing import a package, as if it were not installed; unless it is imported by now."""
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment]  # makes an import fail
    try:
        yield
    finally:
        del sys.modules[package]


@contextmanager
def no_garbage() -> Iterator[None]:
    """Looks for no garbage among what is imported, then and later: there is next to none."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
