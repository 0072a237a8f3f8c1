"""What can be said of how data is read."""

from __future__ import annotations

import pytest

from dlsweep.data import Loader
from dlsweep.errors import ConfigError


@pytest.mark.parametrize(("name", "value"), [("workers", -1), ("prefetch", 0)])
def test_a_number_out_of_its_range_is_refused(name: str, value: int) -> None:
    with pytest.raises(ConfigError, match=rf"training\.loader\.{name}: Received {value}"):
        Loader(**{name: value})
