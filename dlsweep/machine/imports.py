"""Checks that packages are installed, and imports them faster."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from dlsweep.errors import MissingExtraError


def require_package(package: str, feature: str, name: str | None = None) -> None:
    """Checks that a package is installed, without importing it.

    Args:
        package: The package, as it is imported.
        feature: What needs it, as the user asked for it.
        name: What pip calls the package, if that differs.

    Raises:
        MissingExtraError: If it is not.
    """
    if find_spec(package) is None:
        raise MissingExtraError(name or package, feature)


@contextmanager
def hidden(package: str) -> Iterator[None]:
    """Hides a package from imports, as if it were not installed, unless it is imported already."""
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
    """Excludes what is imported here from garbage collection, which finds next to nothing."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
